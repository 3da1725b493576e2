"""Large answers are compressed for who takes gzip; small ones, streams and secrets are not."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from devkit_api.app import create_app
from devkit_api.middleware.compression import takes_gzip
from devkit_api.routing import Route, add_routes
from devkit_api.security.policy import POLICIES
from devkit_api.settings import load_settings
from tests.support.client import DevkitServer
from tests.support.process import TEST_KEY

ABOVE = 4096
LARGE = json.dumps(["SLLMWITQC"] * 1000).encode()


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br;q=1.0, *", True),
        ("gzip ; q=1.000", True),
        ("", False),
        ("deflate, br", False),
        ("gzip;q=0, deflate", False),
        ("gzip; q=0.00, *", False),
        ("*;q=0", False),
        ("gzip;q=nan", False),
        ("gzip;q=much", False),
    ],
)
def test_what_a_client_says_it_takes(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


@pytest.fixture
async def client(tmp_path: Any, nothing_ahead: None) -> Any:
    """One route for each policy that a session may call, each with the same large body, one small and one streamed."""
    environ = {"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(tmp_path), "DEVKIT_CATALOGS": "off"}
    app = create_app(load_settings({**environ, "DEVKIT_COMPRESS_ABOVE": str(ABOVE)}))

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=LARGE, content_type="application/json", headers={"ETag": '"one"'})

    async def at_most(_: web.Request) -> web.Response:
        return web.Response(body=LARGE[:ABOVE], content_type="application/json")

    async def streamed(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(LARGE)
        return answer

    add_routes(app, [Route("GET", f"/large/{policy.replace(':', '-')}", large, policy) for policy in POLICIES])
    add_routes(app, [Route("GET", "/small", at_most, "data:read"), Route("GET", "/streamed", streamed, "data:read")])
    async with TestClient(DevkitServer(app), auto_decompress=False, headers={"X-API-Key": TEST_KEY}) as made:
        yield made


async def get(client: Any, path: str, accepted: str = "gzip") -> tuple[Any, bytes]:
    answer = await client.get(path, headers={"Accept-Encoding": accepted})
    return answer, await answer.read()


async def test_a_large_answer_is_sent_as_gzip(client: Any) -> None:
    answer, body = await get(client, "/large/data-read")
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert (gzip.decompress(body), int(answer.headers["Content-Length"])) == (LARGE, len(body))
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["ETag"] == 'W/"one"'


@pytest.mark.parametrize(
    ("path", "accepted", "expected"),
    [
        ("/large/data-read", "br, gzip;q=0", LARGE),
        ("/small", "gzip", LARGE[:ABOVE]),
        ("/streamed", "gzip", LARGE),
    ],
)
async def test_not_without_the_word_of_the_client_nor_small_nor_streamed(
    client: Any, path: str, accepted: str, expected: bytes
) -> None:
    answer, body = await get(client, path, accepted)
    assert ("Content-Encoding" in answer.headers, body) == (False, expected)
    assert answer.headers.get("Vary") == ("Accept-Encoding" if expected == LARGE and path != "/streamed" else None)
    assert answer.headers.get("ETag") == ('"one"' if path.startswith("/large") else None)


async def test_only_answers_without_secrets(client: Any) -> None:
    """Tokens, signed addresses and what names the caller are never compressed; a new policy is not by default."""
    seen = {}
    for policy in POLICIES:
        answer, _ = await get(client, f"/large/{policy.replace(':', '-')}")
        if answer.status == 200:
            seen[policy] = "Content-Encoding" in answer.headers
    packed = {policy for policy, is_packed in seen.items() if is_packed}
    assert packed == {"system:read", "system:metrics", "modules:read", "runs:list", "data:read"}
    assert {"session:begin", "identity:read", "runs:start", "runs:read", "objects:signed"} <= seen.keys() - packed


async def test_it_can_be_switched_off(make_client: Any) -> None:
    for above, encoding in (("0", None), ("1", "gzip")):
        client = await make_client(compress_above=above)
        answer = await client.get("/docs/openapi.json", headers={"Accept-Encoding": "gzip"})
        assert answer.headers.get("Content-Encoding") == encoding
        assert (await answer.json())["openapi"] == "3.1.0"
        same = await client.get("/docs/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
        assert same.status == 304
        await client.close()
