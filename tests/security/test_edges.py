"""Proxies, https, deadlines, the compare of keys, and text for the official CLI."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request

from devkit_api import logs
from devkit_api.app import create_app
from devkit_api.errors import SourceInvalid
from devkit_api.logs import configure_logging, mask_secrets
from devkit_api.middleware.audit import about
from devkit_api.middleware.deadline import ANSWER_SECONDS
from devkit_api.routing import Route, add_routes
from devkit_api.security import api_keys, authentication, tokens, users
from devkit_api.security.proxies import Proxies
from devkit_api.settings import SettingsError, load_settings
from tests.support.client import DevkitServer
from tests.support.process import TEST_KEY
from tests.support.waiting import PATIENCE, until_async


@pytest.mark.parametrize(
    ("remote", "headers", "expected"),
    [
        ("203.0.113.9", {"X-Forwarded-For": "198.51.100.1"}, "203.0.113.9"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {"X-Forwarded-For": "192.0.2.7, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.1, nonsense"}, "10.0.0.1"),
        ("10.0.0.1", {"X-Forwarded-For": ",".join(["10.0.0.2"] * 1000)}, "10.0.0.1"),
        ("10.0.0.1", {"Forwarded": 'for="[2001:db8::1]:4711";proto=https'}, "2001:db8::1"),
        ("10.0.0.1", {"Forwarded": "for=198.51.100.1:99, for=10.0.0.3"}, "198.51.100.1"),
        ("10.0.0.1", {"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "198.51.100.1"}, "10.0.0.1"),
        ("10.0.0.1", {"Forwarded": "for=198.51.100.1", "X-Forwarded-For": "198.51.100.1"}, "198.51.100.1"),
        ("::ffff:10.0.0.1", {"X-Forwarded-For": "198.51.100.1"}, "198.51.100.1"),
    ],
)
async def test_forwarded_addresses_are_believed_from_listed_proxies_alone(
    remote: str, headers: dict[str, str], expected: str
) -> None:
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote)
    assert Proxies(["10.0.0.0/8"]).address(request) == expected
    assert Proxies([]).address(request) == remote


@pytest.mark.parametrize("value", ["0.0.0.0/0", "::/0", "nonsense", "10.0.0.1/33"])
def test_a_list_of_proxies_names_them(value: str, tmp_path: Path) -> None:
    environ = {"DEVKIT_TRUSTED_PROXIES": value, "DEVKIT_STATE_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES"):
        load_settings(environ)


async def test_hsts_is_sent_under_https_alone(make_client: Any) -> None:
    client = await make_client(trusted_proxies="127.0.0.1")
    assert "Strict-Transport-Security" not in (await client.get("/")).headers
    behind = await client.get("/", headers={"X-Forwarded-Proto": "https"})
    assert behind.headers["Strict-Transport-Security"] == "max-age=31536000"
    await client.close()
    lying = await make_client()
    forged = await lying.get("/", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in forged.headers
    await lying.close()
    public = await make_client(public_url="https://devkit.lab.example")
    for path in ("/", "/nowhere"):
        assert "Strict-Transport-Security" in (await public.get(path)).headers


async def test_an_answer_comes_in_time_and_a_write_goes_on_behind_it(tmp_path: Path, nothing_ahead: None) -> None:
    app = create_app(
        load_settings({"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(tmp_path / "s"), "DEVKIT_CATALOGS": "off"})
    )
    app[ANSWER_SECONDS] = 0.2
    release, begun, ended = asyncio.Event(), set[str](), list[str]()

    async def slow(request: web.Request) -> web.Response:
        begun.add(request.path)
        try:
            await release.wait()
            ended.append(request.method)
        except asyncio.CancelledError:
            ended.append(f"{request.method} stopped")
            raise
        return web.Response()

    add_routes(app, [Route(method, "/slow", slow, "system:read") for method in ("GET", "POST")])
    add_routes(app, [Route("GET", "/stream", slow, "system:read", stream=True)])
    async with TestClient(DevkitServer(app)) as client:
        read = await client.get("/slow")
        write = await client.post("/slow")
        assert (read.status, write.status) == (503, 503)
        assert (await read.json())["error"]["code"] == "DEADLINE_EXCEEDED"
        assert "nothing was changed" in (await read.json())["error"]["message"]
        assert "goes on" in (await write.json())["error"]["message"]
        stream = asyncio.create_task(client.get("/stream"))
        await until_async(lambda: "/stream" in begun)
        await client.get("/slow")  # a whole deadline later the stream is still open
        assert not stream.done()
        release.set()
        assert (await stream).status == 200
    assert ended == ["GET stopped", "GET stopped", "POST", "GET"]


async def test_a_write_past_its_deadline_is_audited_as_unfinished_and_again_when_it_ends(
    tmp_path: Path, nothing_ahead: None
) -> None:
    audit = tmp_path / "audit.jsonl"
    environ = {"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(tmp_path / "s"), "DEVKIT_CATALOGS": "off"}
    app = create_app(load_settings({**environ, "DEVKIT_AUDIT_FILE": str(audit)}))
    app[ANSWER_SECONDS] = 0.1
    release, ends = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(request: web.Request) -> web.Response:
        what = request.match_info["what"]
        asyncio.current_task().add_done_callback(lambda _: ends.release())  # type: ignore[union-attr]
        await release.wait()
        about(request, made=f"{what}-1")
        if what == "bad":
            raise SourceInvalid(reason="it is not one")
        if what == "broken":
            raise ValueError("an inside")
        return web.Response(status=201)

    add_routes(app, [Route("POST", "/slow/{what}", slow, "system:read")])

    def records() -> list[dict[str, Any]]:
        return [json.loads(line) for line in audit.read_text().splitlines()]

    async with TestClient(DevkitServer(app)) as client:
        for what in ("good", "bad", "broken"):
            assert (await client.post(f"/slow/{what}", headers={"X-Correlation-ID": f"late-{what}"})).status == 503
        answered = [(r["object"], r["outcome"], r["status"], r["error"]) for r in records()]
        assert answered == [({"what": w}, "unfinished", 503, "DEADLINE_EXCEEDED") for w in ("good", "bad", "broken")]
        release.set()
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await ends.acquire()
        await client.get("/")
        ended = {r["correlation_id"]: r for r in records()[3:]}
    assert len(ended) == 3
    assert {name: (r["outcome"], r["status"], r["error"]) for name, r in ended.items()} == {
        "late-good": ("done", 201, None),
        "late-bad": ("failed", 422, "SOURCE_INVALID"),
        "late-broken": ("failed", 500, "INTERNAL_ERROR"),
    }
    assert ended["late-good"]["object"] == {"what": "good", "made": "good-1"}
    assert ended["late-good"]["action"] == "POST /slow/{what}"
    assert "an inside" not in audit.read_text()


async def test_every_secret_is_compared_in_constant_time(make_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def watched(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    class Watched:
        compare_digest = staticmethod(watched)
        digest = staticmethod(hmac.digest)

    for module in (api_keys, authentication, tokens, users):
        monkeypatch.setattr(module, "hmac", Watched)
    client = await make_client()
    for key in ("a", TEST_KEY[:-1] + "x", TEST_KEY + "x", TEST_KEY):
        compared.clear()
        await client.get("/v1/modules", headers={"X-API-Key": key})
        [(left, right)] = compared
        assert len(left) == len(right) == 32  # digests: neither length nor place of the difference shows
    forged = f"hla_runtoken_devkit-run-{'0' * 26}~{'0' * 16}~{'A' * 43}"
    compared.clear()
    assert (await client.get("/v1/modules", headers={"X-API-Key": forged})).status == 401
    signer = tokens.Signer("0" * 32)
    good = signer.run_token("devkit-run-0190a0b0-c0d0-7000-8000-000000000000", "0" * 16)
    compared.clear()
    signer.verify_run_token(good[:-1] + ("A" if good[-1] != "A" else "B"))
    signer.object_signature_matches("x", "a")
    assert len(compared) == 2


async def test_text_of_a_caller_is_no_markup_for_the_official_cli(make_client: Any) -> None:
    from rich.text import Text

    client = await make_client()
    path = "/v1/[/red][bold]x"
    sdk = await (await client.get(path, headers={"User-Agent": "hla-compass-sdk/6.0.2"})).json()
    other = await (await client.get(path)).json()
    assert path in other["error"]["message"]
    assert Text.from_markup(sdk["error"]["message"]).plain == other["error"]["message"]


def test_secrets_are_masked_by_value_and_by_form(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    secret = "db-" + "pass" * 5 + "word-9"
    environ = {"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(tmp_path / "s"), "DEVKIT_DB_HOST": "db.example"}
    create_app(load_settings({**environ, "DEVKIT_DB_PASSWORD": secret, "DEVKIT_CATALOGS": "off"}))
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJlLXRoYXQtaXM"  # pragma: allowlist secret
    text = mask_secrets(f"{secret} {TEST_KEY} {token} hla_devkit_0123456789ab_{'x' * 43} X-Amz-Signature=abc&x=1")
    for hidden in (secret, TEST_KEY, token, "x" * 43, "abc"):
        assert hidden not in text
    assert "&x=1" in text
    assert logging.getLogger("devkit.audit").propagate


def test_no_field_of_a_log_line_can_be_overwritten(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "access_lines", None)  # and put back: it is the process's
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("INFO", "json")
        extra = {
            "level": "NONE",
            "timestamp": "x",
            "logger": "y",
            "token": "abc",
            "text": 'a\n{"level":"forged"}\u2028',
        }
        logging.getLogger("of.a.test").info("said\n%s", "\x1b[2J", extra=extra)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    [line] = capfd.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["level_"], record["token"]) == (
        "INFO",
        "of.a.test",
        "NONE",
        "***",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["timestamp"])
