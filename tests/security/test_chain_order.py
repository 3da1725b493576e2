"""The order of the chain, by behaviour: of several things wrong with a request, the outermost layer's is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from devkit_api.app import create_app
from devkit_api.httpio import read_body
from devkit_api.middleware.deadline import ANSWER_SECONDS
from devkit_api.modules.publish.schemas import ActivateSchema
from devkit_api.routing import Route, add_routes
from devkit_api.security.headers import SECURITY_HEADERS
from devkit_api.settings import load_settings
from tests.security.test_chain import ORIGIN, SECRET, bearer, sign
from tests.support.client import DevkitServer
from tests.support.process import TEST_KEY
from tests.support.waiting import PATIENCE

TOO_LARGE = {"data": b"x" * 5000}
NO_JSON = {"data": b"x", "headers": {"Content-Type": "application/json"}}
GONE = int(time.time()) - 3600


@pytest.fixture
async def client(tmp_path: Path, nothing_ahead: None) -> AsyncIterator[Any]:
    """Two writes an hour for each caller, bodies of a kilobyte, and an address for platform admins that is slow."""
    environ = {"API_KEY": TEST_KEY, "STATE_DIR": str(tmp_path / "s"), "CATALOGS": "off", "JWT_SECRET": SECRET}
    environ |= {"MAX_BODY_BYTES": "1024", "RATE_LIMIT_WRITE": "1/hour:2", "CORS_ORIGINS": ORIGIN}
    app = create_app(load_settings({f"DEVKIT_{name}": value for name, value in environ.items()}))
    app[ANSWER_SECONDS] = PATIENCE

    release = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await read_body(request, ActivateSchema())
        await release.wait()
        return web.Response()

    add_routes(app, [Route("POST", "/slow", slow, "system:reset")])
    async with TestClient(DevkitServer(app)) as made:
        yield made
        release.set()


async def ask(client: Any, who: dict[str, str], path: str = "/slow", **options: Any) -> tuple[int, str]:
    """Status and code; whichever layer answers, those around it have done their part."""
    extra = {"X-Correlation-ID": "in-order", "Origin": ORIGIN, "Accept-Encoding": "gzip", **options.pop("headers", {})}
    async with client.post(path, headers={**extra, **who}, **options) as answer:
        assert answer.headers["X-Correlation-ID"] == "in-order"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        body = await answer.json()
        assert body["correlation_id"] == "in-order"
        return answer.status, body["error"]["code"]


async def ask_in_vain(client: Any, who: dict[str, str]) -> tuple[int, str]:
    """What takes for ever, for a caller whose time is short. All other answers have as long as they need."""
    with pytest.MonkeyPatch.context() as hurried:
        hurried.setitem(client.app._state, ANSWER_SECONDS, 0.1)
        return await ask(client, who, json={"version": "1.0.0"})


async def test_the_outermost_layer_that_objects_answers(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    user = bearer(sign(sub="una", role="user"))
    outdated = bearer(sign(sub="una", role="user", exp=GONE))
    admin = bearer(sign(sub="petra", role="platform_admin"))
    told = [
        # size before credential: nothing is looked up for a body that will not be read
        await ask(client, {}, **TOO_LARGE),
        await ask(client, outdated, **TOO_LARGE),
        # credential before policy, and before there is an address at all
        await ask(client, outdated, **NO_JSON),
        await ask(client, outdated, "/nowhere"),
        # policy before the handler reads anything; what it refuses has been counted
        await ask(client, user, **NO_JSON),
        await ask(client, user, **NO_JSON),
        # the limit of the caller before policy
        await ask(client, user, **NO_JSON),
        await ask(client, user, "/nowhere"),
        # size and credential before the limit
        await ask(client, user, **TOO_LARGE),
        await ask(client, outdated, **NO_JSON),
        # the handler last, and the deadline around it alone
        await ask(client, admin, **NO_JSON),
        await ask_in_vain(client, admin),
        await ask(client, admin, json={"version": "1.0.0"}),
    ]
    assert told == [
        (413, "BODY_TOO_LARGE"),
        (413, "BODY_TOO_LARGE"),
        (401, "UNAUTHORIZED"),
        (401, "UNAUTHORIZED"),
        (403, "FORBIDDEN"),
        (403, "FORBIDDEN"),
        (429, "RATE_LIMITED"),
        (429, "RATE_LIMITED"),
        (413, "BODY_TOO_LARGE"),
        (401, "UNAUTHORIZED"),
        (400, "BODY_INVALID"),
        (503, "DEADLINE_EXCEEDED"),
        (429, "RATE_LIMITED"),
    ]
    # Errors are made inside of what logs and counts: each answer is a line, an audit record and a count.
    lines = [int(record.args[2]) for record in caplog.records if record.name == "devkit_api.access"]
    audited = [record.status for record in caplog.records if record.name == "devkit.audit"]
    assert lines == audited == [status for status, _ in told]
    page = await (await client.get("/metrics", headers={"X-API-Key": TEST_KEY})).text()
    for status in {status for status, _ in told}:
        count = sum(1 for other, _ in told if other == status)
        counted = [
            line
            for line in page.splitlines()
            if line.startswith("devkit_http_requests_total") and f'status="{status}"' in line
        ]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) == count, status
