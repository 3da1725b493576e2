"""The real server under attack: one process, many kinds of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.attack import (
    HEAD,
    ORIGIN,
    assert_complete,
    assert_no_surprises,
    connection,
    every_route,
    pipelined,
    port,
    raw,
    whole_lines,
)
from tests.security.test_chain import sign
from tests.support.client import send_raw
from tests.support.modules import manifest
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process

WRONG_KEYS = 60


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    """A server that soon loses patience: who does not mean to try it must not be slow."""
    root = tmp_path_factory.mktemp("strict")
    with DevkitProcess(root, client_timeout=5, rate_limit_refused=f"1/hour:{WRONG_KEYS}") as running:
        yield running
        assert_no_surprises(running)


async def test_two_hundred_slow_clients_keep_nobody_waiting_and_are_cut(strict: DevkitProcess) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", port(strict)) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"GET /v1/modules HTTP/1.1\r\nHost: devkit\r\nX-A: ")
    for _ in range(20):
        answer = await asyncio.to_thread(strict.request, "GET", "/v1/modules", timeout=PATIENCE)
        assert answer.status_code == 200

    async def until_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1024):
                pass
        except ConnectionError:
            pass
        writer.close()

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(until_cut(*each) for each in slow))


async def test_a_body_that_trickles_is_answered_408_and_cut(strict: DevkitProcess) -> None:
    async with connection(strict) as (reader, writer):
        head = f"POST /v1/module-runs HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        writer.write(head.encode() + b'{"moduleId')

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                # The attack itself: bytes that come slowly. No state can be awaited instead of the time between them.
                await asyncio.sleep(0.2)

        task = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read()  # to the end: the server closes
        finally:
            task.cancel()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"REQUEST_TOO_SLOW" in answer


BAD_REQUESTS = {
    "two lengths": b"POST /v1/module-runs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length and chunks": b"PUT / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "hidden coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    "bare line feed in a name": b"GET / HTTP/1.1\r\nHost: x\r\nX\nY: z\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    "zero byte": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long field": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_requests_that_two_servers_would_read_differently_are_refused(devkit: DevkitProcess, name: str) -> None:
    async with connection(devkit) as (reader, writer):
        writer.write(BAD_REQUESTS[name] + b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()  # to the end: the server closes
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.0 400") or head.startswith("HTTP/1.1 400")
    assert_complete(dict(line.split(": ", 1) for line in head.split("\r\n")[1:]))
    assert json.loads(body)["error"]["code"] == "BAD_REQUEST"  # one answer, and nothing after it


@pytest.mark.parametrize(
    "chunk", [b"zz\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n"]
)
async def test_broken_chunks_are_refused(devkit: DevkitProcess, chunk: bytes) -> None:
    head = (
        f"POST /v1/module-runs HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, headers, _ = await send_raw(port(devkit), head.encode() + chunk)
    assert status == 400
    assert_complete(headers)


TRAVERSALS = [
    "..", "../..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%252f..%252fetc",
    "....//....//etc/passwd", "..\\..\\windows", "%2e%2e%5c", "/etc/passwd", "//etc/passwd", "~root", "%00",
    "a%00.json", "a%0d%0aX-Forged:%201", "%c0%ae%c0%ae/", "%ff%fe", "credentials.env", "..;/", "a" * 5000,
    "[/red]", "{{7*7}}", "${jndi:ldap://x}", "'; DROP TABLE runs;--", "<script>", "\u202e", "CON", "-rf",
]  # fmt: skip


async def test_no_path_parameter_of_any_route_leads_out(devkit: DevkitProcess) -> None:
    requests = []
    for method, path in every_route():
        for name in re.findall(r"\{[^}]+\}", path):
            for text in TRAVERSALS:
                sent = text if "%" in text else quote(text, safe="/\\.~;")
                filled = path.replace(name, sent)
                filled = re.sub(r"\{[^}]+\}", "x", filled)
                requests.append(raw(method, filled, b"{}" if method in {"POST", "PUT"} else b""))
    assert len(requests) > 1500
    for status, answer in await pipelined(devkit, requests):
        if answer.endswith(b"\r\n\r\n"):
            continue  # of HEAD
        if b"uploadId" in answer:
            continue  # a name a user may give; it is stored under an id
        assert status != 503 or b"CATALOGS_OFF" in answer
        assert status in {400, 401, 403, 404, 405, 409, 415, 422, 503}, answer[:600]
        assert b"root:" not in answer
        assert TEST_KEY.encode() not in answer
        assert b"\nx-forged:" not in answer.lower()


def test_what_is_written_into_headers_forges_neither_answers_nor_log_lines(devkit: DevkitProcess) -> None:
    forged = 'x"} {"level":"ERROR","message":"forged"}'
    marks = [forged, "a\tb", "%0d%0aSet-Cookie:a=b", "\u001b[2J".encode().decode("latin-1"), "é", "${x}"]
    for mark in marks:
        encoded = mark.encode("utf-8").decode("latin-1")
        headers = {"X-Correlation-ID": encoded, "User-Agent": encoded, "Origin": encoded, "Referer": encoded}
        for path in ("/v1/modules", f"/nowhere/{quote(mark)}", f"/v1/module-runs?moduleId={quote(mark)}"):
            answer = devkit.request("GET", path, headers=headers)
            assert answer.status_code in {200, 400, 404}
            assert "Set-Cookie" not in answer.headers
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Correlation-ID"]), mark
    records = [json.loads(line) for line in whole_lines(devkit.log_text())]
    assert not [record for record in records if record["message"] == "forged"]


TOKENS = {
    "none": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",  # pragma: allowlist secret
    "three dots": "...",
    "huge": "a" * 7000,
    "not base64": "a.b.c",
    "null alg": "eyJhbGciOm51bGx9.eyJzdWIiOiJhIn0.YQ",  # pragma: allowlist secret
    "array header": "W10.eyJzdWIiOiJhIn0.YQ",
}


@pytest.mark.parametrize("name", TOKENS)
def test_no_bent_token_opens_anything(devkit: DevkitProcess, name: str) -> None:
    answer = devkit.request("GET", "/v1/modules", key=None, headers={"Authorization": f"Bearer {TOKENS[name]}"})
    assert answer.status_code == 401
    assert_complete(answer.headers)


def fresh_run(devkit: DevkitProcess, **headers: str) -> dict[str, Any]:
    assert devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("guarded")}).status_code < 300
    body = {"moduleId": "guarded", "parameters": {}, "mode": "async"}
    answer = devkit.request("POST", "/v1/module-runs", json=body, key=None if headers else TEST_KEY, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def run_routes() -> list[tuple[str, str]]:
    return [(m, p) for m, p in every_route() if "{run_id}" in p and not re.search("/(objects|run-links)/", p)]


def test_nobody_reaches_a_run_of_another_on_any_route(devkit: DevkitProcess) -> None:
    anna, boris = ({"Authorization": f"Bearer {sign(sub=name, role='developer')}"} for name in ("anna", "boris"))
    run = fresh_run(devkit, **anna)
    reached = 0
    for method, path in run_routes():
        address = re.sub(r"\{run_id\}", run["runId"], path)
        address = re.sub(r"\{[^}]+\}", "x", address)
        answer = devkit.request(method, address, key=None, headers=boris, json={} if method == "POST" else None)
        assert answer.status_code in {403, 404}, (method, path)
        assert "guarded" not in answer.text
        reached += 1
    assert reached >= 14
    assert devkit.request("GET", f"/v1/module-runs/{run['runId']}", key=None, headers=anna).status_code == 200


def test_a_run_token_serves_its_run_alone_and_dies_with_it(devkit: DevkitProcess) -> None:
    mine, other = fresh_run(devkit), fresh_run(devkit)
    token = mine["token"]
    for method, path in run_routes():
        address = re.sub(r"\{[^}]+\}", "x", path.replace("{run_id}", other["runId"]))
        answer = devkit.request(method, address, key=token, json={} if method == "POST" else None)
        assert answer.status_code == 403, (method, path)
    for method, path in (("GET", "/v1/modules"), ("GET", "/v1/module-runs"), ("POST", "/v1/devkit/reset")):
        assert devkit.request(method, path, key=token).status_code == 403
    assert devkit.request("POST", f"/v1/module-runs/{mine['runId']}/heartbeat", key=token, json={}).status_code == 200
    assert devkit.request("POST", f"/v1/module-runs/{mine['runId']}/cancel").status_code == 200
    for method, path in run_routes():
        address = re.sub(r"\{[^}]+\}", "x", path.replace("{run_id}", mine["runId"]))
        answer = devkit.request(method, address, key=token, json={} if method == "POST" else None)
        assert answer.status_code == 401, (method, path)


def every_status(devkit: DevkitProcess) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
    run = fresh_run(devkit)
    ended = f"/v1/module-runs/{run['runId']}"
    yield 200, "GET", "/v1/modules", {}
    yield 201, "POST", "/v1/devkit/modules", {"json": {"manifest": manifest("made-anew")}}
    yield 202, "POST", "/v1/module-runs", {"json": {"moduleId": "guarded", "parameters": {}, "mode": "async"}}
    yield 400, "POST", "/v1/module-runs", {"data": "{", "headers": {"Content-Type": "application/json"}}
    yield 401, "GET", "/v1/modules", {"key": "wrong-key-0123456789"}
    yield 403, "POST", f"{ended}/heartbeat", {"json": {}}
    yield 404, "GET", "/nowhere", {}
    yield 405, "PATCH", "/v1/modules", {}
    yield 409, "GET", f"{ended}/result", {}
    yield 413, "POST", "/v1/module-runs", {"data": b"x" * 100_000}
    yield 415, "POST", "/v1/module-runs", {"data": b"x", "headers": {"Content-Type": "text/plain"}}
    yield 422, "POST", "/v1/module-runs", {"json": {}}
    yield 503, "GET", "/v1/data-catalogs", {}


def test_every_status_carries_headers_envelope_correlation_and_cors(devkit: DevkitProcess) -> None:
    for status, method, path, options in every_status(devkit):
        for origin, allowed in ((ORIGIN, True), ("http://evil.example", False), ("null", False), (None, False)):
            headers = {**options.get("headers", {}), **({"Origin": origin} if origin else {})}
            answer = devkit.request(method, path, **{**options, "headers": headers})
            if status == 201 and answer.status_code == 200:
                continue  # it is there already
            assert answer.status_code == status, answer.text
            assert_complete(answer.headers)
            assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed or origin is None
            assert ("Access-Control-Allow-Credentials" in answer.headers) is allowed
            assert answer.headers.get("Access-Control-Allow-Origin") != "*"
            if status >= 400:
                body = answer.json()
                assert body["success"] is False
                assert body["error"].keys() == {"code", "message", "details", "hint", "docs"}
                assert body["correlation_id"] == answer.headers["X-Correlation-ID"]


def test_head_is_answered_wherever_get_is(devkit: DevkitProcess) -> None:
    for path in ("/", "/v1/modules", "/v1/system/health", "/v1/module-runs"):
        head, get = devkit.request("HEAD", path), devkit.request("GET", path)
        assert (head.status_code, head.content) == (200, b"")
        assert get.content
    assert devkit.request("HEAD", "/v1/modules", key=None).status_code == 401
    run = fresh_run(devkit)
    assert devkit.request("HEAD", f"/v1/module-runs/{run['runId']}/events", timeout=PATIENCE).status_code == 200


def test_the_audit_stream_tells_of_writes_and_refusals_and_of_nothing_else(devkit: DevkitProcess) -> None:
    path = Path(str(devkit.settings["audit_file"]))
    before = len(path.read_text().splitlines()) if path.exists() else 0
    run = fresh_run(devkit)
    devkit.request("GET", "/v1/modules")
    devkit.request("GET", f"/v1/module-runs/hla_runtoken_{'x' * 40}", key="wrong-key-wrong-key")
    records = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    registered, started, refused = records
    assert (registered["outcome"], registered["object"]["module_id"]) == ("done", "guarded")
    assert started["object"] == {"run_id": run["runId"], "module_id": "guarded"}
    assert (started["user"], started["caller"], started["status"]) == (
        "00000000-0000-4000-8000-00000000d0e2", "api_key", 202,
    )  # fmt: skip
    assert (refused["outcome"], refused["error"], refused["address"]) == ("refused", "UNAUTHORIZED", "127.0.0.1")
    assert "xxxx" not in refused["object"]["run_id"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_old_field_names_are_taken_and_said_to_be_old_once(devkit: DevkitProcess) -> None:
    run = fresh_run(devkit)
    agent = {"User-Agent": "an-old-client/1"}
    old = {"module_id": "guarded", "parameters": {}, "mode": "async"}
    for _ in range(2):
        answer = devkit.request("POST", "/v1/module-runs", json=old, headers=agent)
        assert (answer.status_code, answer.headers["Deprecation"]) == (202, "@1767225600")
    assert devkit.log_text().count("an-old-client/1") == 1
    new = devkit.request("POST", "/v1/module-runs", json={**old, "moduleId": "guarded", "module_id": "x"})
    assert new.status_code == 422
    beat = f"/v1/module-runs/{run['runId']}/heartbeat"
    for name in ("run_id", "job_id", "jobId", "runId"):
        same = devkit.request("POST", beat, key=run["token"], json={name: run["runId"]})
        assert same.status_code == 200
        assert ("Deprecation" in same.headers) is (name != "runId")
        assert devkit.request("POST", beat, key=run["token"], json={name: "another"}).status_code == 422
    assert "Deprecation" in devkit.request("GET", "/v1/module-runs?module_id=guarded").headers
    assert "Deprecation" not in devkit.request("GET", "/v1/module-runs?moduleId=guarded").headers


def test_wrong_keys_are_slowed_down(strict: DevkitProcess) -> None:
    guessing = HTTPConnection("127.0.0.1", port(strict), timeout=PATIENCE, source_address=("127.0.0.9", 0))
    statuses = []
    for _ in range(WRONG_KEYS + 20):
        guessing.request("GET", "/v1/modules", headers={"X-API-Key": "guess-0123456789"})
        with guessing.getresponse() as answer:
            answer.read()
            statuses.append(answer.status)
    guessing.close()
    assert statuses == [401] * WRONG_KEYS + [429] * 20
    assert strict.request("GET", "/v1/modules").status_code == 200
