"""Bad input: a 4xx with a code of the catalogue, and not one byte of state changed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient
from yarl import URL

from devkit_api.errors import CATALOGUE, SignatureInvalid
from devkit_api.modules import bundles
from devkit_api.modules.contracts import check_parameters
from devkit_api.modules.routes import REGISTRY
from devkit_api.objects.protocol import Expected
from devkit_api.objects.routes import URL_SIGNER
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.runs.routes import RUNS
from devkit_api.security.headers import SECURITY_HEADERS
from devkit_api.security.tokens import Signer
from devkit_api.system import health
from tests.support.client import begin_nothing_ahead, client_of, send_raw, snapshot
from tests.support.modules import manifest, write_module
from tests.support.process import TEST_KEY
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

Client = TestClient[Any, Any]
SECRET = "quite-secret-thing-4711"


class Devkit:
    """A client, its state directory, an external module `outside` and one run of it."""

    def __init__(self, client: Client, state: Path, modules: Path) -> None:
        self.client, self.state, self.modules = client, state, modules
        self.run_id = self.token = ""
        self.before: dict[str, str] = {}
        self.prepared: dict[str, str] = {}

    async def prepare(self) -> None:
        contract = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
        await self.post("/v1/devkit/modules", json={"manifest": manifest("outside", inputs=contract)})
        run = await (await self.post("/v1/module-runs", json={"moduleId": "outside", "mode": "async"})).json()
        self.run_id, self.token = run["runId"], run["token"]
        await self.post(f"/v1/module-runs/{self.run_id}/heartbeat", headers={"X-API-Key": self.token})
        self.prepared = snapshot(self.state)
        assert any(name.startswith("runs/") and name.endswith(".json") for name in self.prepared)

    @property
    def port(self) -> int:
        assert self.client.port is not None
        return self.client.port

    def json_addresses(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each address that takes JSON, with the credential it takes."""
        for address in JSON_ADDRESSES:
            yield address.format(run=self.run_id), {"X-API-Key": self.token if "{run}" in address else TEST_KEY}

    async def post(self, path: str, **options: Any) -> ClientResponse:
        return await self.client.post(path, **options)

    async def json_post(self, path: str, body: bytes | str, **headers: str) -> ClientResponse:
        data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        return await self.client.post(path, data=data, headers={"Content-Type": "application/json", **headers})

    async def refused(self, answer: ClientResponse, status: int | None, *codes: str) -> dict[str, Any]:
        """The error of a refusal that left everything as it was."""
        return self.refused_raw(answer.status, dict(answer.headers), await answer.read(), status, *codes)

    def refused_raw(
        self, got: int, headers: dict[str, str], body: bytes, status: int | None, *codes: str
    ) -> dict[str, Any]:
        shown = body[:500]
        assert 400 <= got < 500, (got, shown)
        assert status in {None, got}, (got, shown)
        error = check_envelope(got, headers, body)
        assert not codes or error["code"] in codes, shown
        assert snapshot(self.state) == self.before
        return error


def check_envelope(status: int, headers: Any, body: bytes) -> dict[str, Any]:
    """The one error body, with all its headers."""
    sent = {name.lower(): value for name, value in headers.items()}
    for name, value in SECURITY_HEADERS.items():
        assert sent.get(name.lower()) == value, (name, body[:300])
    assert sent["content-type"].startswith("application/json")
    document = json.loads(body)
    assert document["success"] is False
    assert document["correlation_id"] == sent["x-correlation-id"] not in {"", "-"}
    error: dict[str, Any] = document["error"]
    assert set(error) == {"code", "message", "details", "hint", "docs"}
    assert CATALOGUE[error["code"]].status == status
    return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devkit]:
    """One for all tests, as what is refused leaves no trace."""
    folder = tmp_path_factory.mktemp("bad-input")
    modules = folder / "roots"
    modules.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        begin_nothing_ahead(patch)
        patch.setattr(health, "_DEADLINE", PATIENCE)  # what is asked is its form, not how fast a disk is
        settings = {"source_roots": modules, "max_source_bytes": 256 * 1024, "rate_limit_refused": "10000/second"}
        async with client_of(folder / "state", **settings) as client:
            yield Devkit(client, folder / "state", modules)


@pytest_asyncio.fixture(loop_scope="module")
async def devkit(application: Devkit) -> Devkit:
    """With a run of its own once another test has changed something."""
    if not application.prepared or snapshot(application.state) != application.prepared:
        await application.post(f"/v1/module-runs/{application.run_id}/cancel")
        await application.prepare()
    application.before = application.prepared
    return application


# --- JSON bodies ------------------------------------------------------------------------------------------------------

JSON_ADDRESSES = [
    "/v1/module-runs",
    "/v1/api/module-runs",
    "/v1/devkit/modules",
    "/v1/modules/outside/quote",
    "/v1/module-runs/{run}/storage",
    "/v1/module-runs/{run}/heartbeat",
    "/v1/module-runs/{run}/complete",
]
BROKEN_JSON = {
    "malformed": b'{"moduleId": ',
    "not json": b"moduleId=outside",
    "trailing": b"{} {}",
    "single quotes": b"{'moduleId': 'outside'}",
    "not utf-8": b'{"moduleId": "\xff\xfe"}',
    "utf-16": '{"moduleId": "outside"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"moduleId": "outside"}',
    "deep lists": b"[" * 1000 + b"]" * 1000,
    "deep objects": b'{"parameters":' * 1000 + b"1" + b"}" * 1000,
    "very deep": b"[" * 200_000,
    "deep within": b'{"moduleId":"outside","parameters":{"n":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    "NaN": b'{"moduleId": "outside", "parameters": {"n": NaN}}',
    "Infinity": b'{"moduleId": "outside", "parameters": {"n": Infinity}}',
    "minus Infinity": b'{"moduleId": "outside", "parameters": {"n": -Infinity}}',
    "overflowing float": b'{"moduleId": "outside", "parameters": {"n": 1e999}}',
    "raw NUL": b'{"moduleId": "outside\x00"}',
    "escaped NUL": b'{"moduleId": "outside", "parameters": {"n": "a\\u0000b"}}',
    "NUL in a key": b'{"moduleId": "outside", "parameters": {"a\\u0000": 1}}',
    "lone surrogate": b'{"moduleId": "outside", "parameters": {"n": "\\ud800"}}',
    "lone surrogate key": b'{"moduleId": "outside", "parameters": {"\\udfff": 1}}',
    "duplicate keys": b'{"moduleId": "outside", "moduleId": "other"}',
    "duplicate inner keys": b'{"moduleId": "outside", "parameters": {"n": 1, "n": 2}}',
    "huge integer": b'{"moduleId": "outside", "parameters": {"n": ' + b"9" * 5000 + b"}}",
    "integer beyond 64 bits": b'{"moduleId": "outside", "parameters": {"n": 9223372036854775808}}',
    "long key": b'{"moduleId": "outside", "parameters": {"' + b"k" * 2000 + b'": 1}}',
    "many values": b'{"moduleId": "outside", "parameters": {"n": [' + b"1," * 1_000_001 + b"1]}}",
}


@pytest.mark.parametrize("body", BROKEN_JSON.values(), ids=BROKEN_JSON)
async def test_broken_json_is_refused(devkit: Devkit, body: bytes) -> None:
    for path, headers in devkit.json_addresses():
        answer = await devkit.json_post(path, body, **headers)
        error = await devkit.refused(answer, 400, "BODY_INVALID")
        assert "outside" not in error["message"]


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"1", b"true", b"1.5"])
async def test_json_that_is_no_object_is_refused(devkit: Devkit, body: bytes) -> None:
    for path, headers in devkit.json_addresses():
        error = await devkit.refused(await devkit.json_post(path, body, **headers), 422, "REQUEST_INVALID")
        assert error["details"]["errors"][0]["expected"] == "an object"


WRONG_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "module id a number": ({"moduleId": 1}, "/moduleId"),
    "module id null": ({"moduleId": None}, "/moduleId"),
    "module id a list": ({"moduleId": ["outside"]}, "/moduleId"),
    "no module id": ({"parameters": {}}, "/moduleId"),
    "traversal": ({"moduleId": "../../etc/passwd"}, "/moduleId"),
    "long module id": ({"moduleId": "a" * 5000}, "/moduleId"),
    "line break": ({"moduleId": "outside\n"}, "/moduleId"),
    "parameters a list": ({"moduleId": "outside", "parameters": []}, "/parameters"),
    "parameters a text": ({"moduleId": "outside", "parameters": "{}"}, "/parameters"),
    "parameters null": ({"moduleId": "outside", "parameters": None}, "/parameters"),
    "unknown mode": ({"moduleId": "outside", "mode": "turbo"}, "/mode"),
    "mode a number": ({"moduleId": "outside", "mode": 7}, "/mode"),
    "version a number": ({"moduleId": "outside", "version": 1}, "/version"),
    "version traversal": ({"moduleId": "outside", "version": "../1"}, "/version"),
    "runtime zero": ({"moduleId": "outside", "maxRuntimeSeconds": 0}, "/maxRuntimeSeconds"),
    "runtime true": ({"moduleId": "outside", "maxRuntimeSeconds": True}, "/maxRuntimeSeconds"),
    "runtime a text": ({"moduleId": "outside", "maxRuntimeSeconds": "60"}, "/maxRuntimeSeconds"),
    "runtime a float": ({"moduleId": "outside", "maxRuntimeSeconds": 60.5}, "/maxRuntimeSeconds"),
    "runtime huge": ({"moduleId": "outside", "maxRuntimeSeconds": 2**62}, "/maxRuntimeSeconds"),
    "data context a text": ({"moduleId": "outside", "dataContext": "x"}, "/dataContext"),
    "unknown field": ({"moduleId": "outside", "paramters": {}}, "/paramters"),
    "unknown field with a slash": ({"moduleId": "outside", "a/b~c": 1}, "/a~1b~0c"),
    "plan without fingerprint": ({"moduleId": "outside", "admissionId": "x"}, "/admissionId"),
}


@pytest.mark.parametrize(("body", "path"), WRONG_RUNS.values(), ids=WRONG_RUNS)
async def test_wrong_fields_of_a_run_are_named(devkit: Devkit, body: dict[str, Any], path: str) -> None:
    error = await devkit.refused(await devkit.post("/v1/module-runs", json=body), 422, "REQUEST_INVALID")
    assert path in [finding["path"] for finding in error["details"]["errors"]]
    assert all(finding["message"] for finding in error["details"]["errors"])


async def test_parameters_that_break_the_contract_are_named(devkit: Devkit) -> None:
    for parameters, path in (({"n": "1"}, "/n"), ({"n": 1.5}, "/n"), ({"m": 1}, "")):
        for address in ("/v1/module-runs", "/v1/modules/outside/quote"):
            body = {"parameters": parameters} | ({"moduleId": "outside"} if address.endswith("runs") else {})
            error = await devkit.refused(await devkit.post(address, json=body), 422, "INPUT_INVALID")
            assert error["details"]["errors"][0]["path"] == path
            assert error["details"]["errors"][0]["expected"]


async def test_a_missing_field_is_told_in_words() -> None:
    findings = await check_parameters({"type": "object", "required": ["b", "a"]}, {"a": 1})
    assert [(finding["path"], finding["expected"]) for finding in findings] == [("/b", "all of a, b")]


async def test_unknown_module_is_refused_everywhere(devkit: Devkit) -> None:
    for method, path, body in (
        ("POST", "/v1/module-runs", {"moduleId": "nobody"}),
        ("POST", "/v1/module-runs", {"moduleId": "outside", "version": "9.9.9"}),
        ("POST", "/v1/modules/nobody/quote", {}),
        ("GET", "/v1/modules/nobody", None),
        ("GET", "/v1/modules/outside?version=9.9.9", None),
        ("DELETE", "/v1/devkit/modules/nobody", None),
        ("DELETE", "/v1/devkit/modules/nobody?force=true", None),
        ("DELETE", "/v1/modules/outside?version=9.9.9", None),
    ):
        await devkit.refused(await devkit.client.request(method, path, json=body), 404, "MODULE_NOT_FOUND")


async def test_deleting_a_module_in_use_is_refused(devkit: Devkit) -> None:
    error = await devkit.refused(await devkit.client.delete("/v1/devkit/modules/outside"), 409, "MODULE_IN_USE")
    assert error["details"]["runs"] == [devkit.run_id]


# --- sizes, types, encodings ------------------------------------------------------------------------------------------


async def test_ten_mebibytes_are_refused_by_their_length(devkit: Devkit) -> None:
    # Headers alone: the answer must not wait for the body.
    for path, headers in devkit.json_addresses():
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {headers['X-API-Key']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {10 * 1024 * 1024}\r\n\r\n"
        )
        devkit.refused_raw(*await send_raw(devkit.port, head.encode()), 413, "BODY_TOO_LARGE")


async def _ten_mebibytes() -> AsyncIterator[bytes]:
    yield b'{"moduleId": "'
    for _ in range(10):
        yield b"a" * 1024 * 1024
    yield b'"}'


async def test_ten_mebibytes_in_chunks_are_refused(devkit: Devkit) -> None:
    for path, headers in devkit.json_addresses():
        sent = {"Content-Type": "application/json", **headers}
        await devkit.refused(await devkit.post(path, data=_ten_mebibytes(), headers=sent), 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense", ""])
async def test_other_content_types_are_refused(devkit: Devkit, kind: str) -> None:
    for path, headers in devkit.json_addresses():
        sent = {**headers, "Content-Type": kind}
        answer = await devkit.post(path, data=b'{"moduleId": "outside"}', headers=sent)
        await devkit.refused(answer, 415, "MEDIA_TYPE_UNSUPPORTED")


async def test_an_empty_body_is_refused_where_one_is_needed(devkit: Devkit) -> None:
    for path, headers in devkit.json_addresses():
        if not path.endswith("heartbeat"):
            await devkit.refused(await devkit.json_post(path, b"", **headers), 400, "BODY_INVALID")


def _http(start: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [start, "Host: x", f"X-API-Key: {TEST_KEY}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


_JSON = "Content-Type: application/json"
BROKEN_HTTP = {
    "garbage": b"\x16\x03\x01\x02\x00 hello\r\n\r\n",
    "raw bytes in the path": _http("GET /v1/modules/\xff\xfe HTTP/1.1"),
    "9000 bytes of path": _http(f"GET /v1/modules/{'a' * 9000} HTTP/1.1"),
    "9000 bytes of header": _http("GET /v1/modules HTTP/1.1", f"X-Long: {'a' * 9000}"),
    "NUL in a header": _http("GET /v1/modules HTTP/1.1", "X-Odd: a\x00b"),
    "space in a header name": _http("GET /v1/modules HTTP/1.1", "A B: c"),
    "two lengths": _http("POST /v1/module-runs HTTP/1.1", _JSON, "Content-Length: 2", "Content-Length: 3", body=b"{}"),
    "negative length": _http("POST /v1/module-runs HTTP/1.1", _JSON, "Content-Length: -1"),
    "broken chunk": _http("POST /v1/module-runs HTTP/1.1", _JSON, "Transfer-Encoding: chunked", body=b"ZZZ\r\n{}\r\n"),
    "not gzip": _http(
        "POST /v1/module-runs HTTP/1.1", _JSON, "Content-Encoding: gzip", "Content-Length: 5", body=b"abcde"
    ),
    "not deflate": _http(
        "POST /v1/module-runs HTTP/1.1", _JSON, "Content-Encoding: deflate", "Content-Length: 5", body=b"abcde"
    ),
    "unknown method": _http("FROB /v1/modules HTTP/1.1"),
    "broken absolute address": _http("GET http://[::1 HTTP/1.1"),
}


@pytest.mark.parametrize("data", BROKEN_HTTP.values(), ids=BROKEN_HTTP)
async def test_broken_http_is_answered_in_the_same_shape(devkit: Devkit, data: bytes) -> None:
    status, headers, body = await send_raw(devkit.port, data)
    devkit.refused_raw(status, headers, body, 400, "BAD_REQUEST")
    assert b"bytearray" not in body


async def test_an_unknown_expectation_does_not_pass_the_error_shape(devkit: Devkit) -> None:
    data = _http("POST /v1/module-runs HTTP/1.1", _JSON, "Expect: tea", "Content-Length: 2", body=b"{}")
    devkit.refused_raw(*await send_raw(devkit.port, data), 422, "REQUEST_INVALID")


# --- addresses --------------------------------------------------------------------------------------------------------

ODD_IDS = {
    "dots": "..",
    "encoded dots": "%2e%2e",
    "encoded traversal": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "double encoded": "%252e%252e%252fetc",
    "encoded slash": "a%2Fb",
    "encoded NUL": "a%00b",
    "only NUL": "%00",
    "backslashes": "..%5c..%5cetc",
    "very long": "a" * 4000,
    "line break": "a%0d%0aX-Odd:%20b",
    "not utf-8": "%ff%fe",
    "surrogate": "%ed%a0%80",
    "blank": "%20",
    "absolute": "%2fetc%2fpasswd",
    "star": "*",
}
ID_ADDRESSES = [
    ("GET", "/v1/modules/{id}"),
    ("POST", "/v1/modules/{id}/quote"),
    ("DELETE", "/v1/modules/{id}"),
    ("DELETE", "/v1/devkit/modules/{id}"),
    ("GET", "/v1/module-runs/{id}"),
    ("GET", "/v1/module-runs/{id}/result"),
    ("GET", "/v1/module-runs/{id}/logs"),
    ("POST", "/v1/module-runs/{id}/cancel"),
    ("GET", "/v1/objects/{id}/x"),
    ("PUT", "/v1/objects/{id}/x"),
    ("GET", "/v1/objects/run/{id}"),
    ("PUT", "/v1/objects/run/{id}"),
]


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS)
async def test_odd_ids_lead_nowhere(devkit: Devkit, odd: str) -> None:
    for method, address in ID_ADDRESSES:
        url = URL(f"http://127.0.0.1:{devkit.port}" + address.format(id=odd), encoded=True)
        options: dict[str, Any] = {"json": {}} if address.endswith("quote") else {}
        answer = await devkit.client.session.request(method, url, **options)
        await devkit.refused(answer, None, "MODULE_NOT_FOUND", "RUN_NOT_FOUND", "ROUTE_NOT_FOUND", "SIGNATURE_INVALID")


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS)
async def test_a_run_token_reaches_no_odd_id(devkit: Devkit, odd: str) -> None:
    for action in ("storage", "heartbeat", "complete"):
        url = URL(f"http://127.0.0.1:{devkit.port}/v1/module-runs/{odd}/{action}", encoded=True)
        answer = await devkit.client.session.post(url, json={}, headers={"X-API-Key": devkit.token})
        await devkit.refused(answer, None, "FORBIDDEN", "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/modules?page=0", "page"),
        ("/v1/modules?page=-1", "page"),
        ("/v1/modules?page=1e3", "page"),
        ("/v1/modules?page=99999999999999999999", "page"),
        ("/v1/modules?page=%D9%A1", "page"),
        ("/v1/modules?limit=100000", "limit"),
        ("/v1/modules?limit=%00", "limit"),
        ("/v1/modules?category=a%00b", "category"),
        ("/v1/modules?search=" + "a" * 500, "search"),
        ("/v1/modules/outside?version=%0a", "version"),
        ("/v1/module-runs?limit=abc", "limit"),
        ("/v1/module-runs?order=up", "order"),
        ("/v1/module-runs?status=done", "status"),
        ("/v1/module-runs?moduleId=%00", "moduleId"),
        ("/v1/module-runs/{run}/logs?limit=0", "limit"),
        ("/v1/module-runs/{run}/logs?nextToken=..%2f..", "nextToken"),
        ("/v1/module-runs/{run}/logs?nextToken=f/-1", "nextToken"),
        ("/v1/module-runs/{run}/logs?nextToken=b/1", "nextToken"),
        ("/v1/module-runs/{run}/logs?nextToken=" + "9" * 300, "nextToken"),
    ],
)
async def test_wrong_query_parameters_are_named(devkit: Devkit, path: str, name: str) -> None:
    url = URL(f"http://127.0.0.1:{devkit.port}" + path.format(run=devkit.run_id), encoded=True)
    error = await devkit.refused(await devkit.client.session.get(url), 400, "PARAMETER_INVALID")
    assert repr(name) in error["message"]


async def test_a_log_token_beyond_the_end_is_an_empty_page(devkit: Devkit) -> None:
    path = devkit.client.server.app[RUNS].files.log(devkit.run_id)  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"message":"one"}\n')
    for order, token in (("desc", "b/999999999999999"), ("asc", "f/999999999999999")):
        address = f"/v1/module-runs/{devkit.run_id}/logs?order={order}&nextToken={token}"
        answer = await devkit.client.get(address)
        assert answer.status == 200, await answer.text()
        assert [e["message"] for e in (await answer.json())["events"]] == (["one"] if order == "desc" else [])


# --- module sources ---------------------------------------------------------------------------------------------------


def _traversals(root: Path) -> dict[str, str]:
    return {
        "relative": "roots/mod",
        "parent": f"{root}/../state",
        "parent of a folder": f"{root}/mod/../../state",
        "elsewhere": "/etc",
        "the root of all": "/",
        "dots": "..",
        "home": "~",
        "a prefix of the name": f"{root}-other",
        "file scheme": f"file://{root}",
        "link out": f"{root}/out",
        "loop": f"{root}/loop/x",
        "encoded": f"{root}/%2e%2e/state",
        "a file": f"{root}/file",
        "missing": f"{root}/missing",
        "the root itself": str(root),
        "overlong name": f"{root}/{'a' * 300}",
    }


@pytest.mark.parametrize("name", _traversals(Path("/x")))
async def test_source_paths_stay_under_their_roots(devkit: Devkit, name: str) -> None:
    elsewhere = write_module(devkit.modules.parent / "elsewhere")
    write_module(devkit.modules.parent / "roots-other")
    if not (devkit.modules / "file").exists():
        (devkit.modules / "out").symlink_to(elsewhere)
        (devkit.modules / "loop").symlink_to(devkit.modules / "loop")
        (devkit.modules / "file").write_text("{}")
    path = _traversals(devkit.modules)[name]
    answer = await devkit.post("/v1/devkit/modules", json={"source": {"path": path}})
    await devkit.refused(answer, None, "SOURCE_PATH_REFUSED", "SOURCE_INVALID")
    inside = name in {"a file", "missing", "the root itself", "overlong name", "encoded"}
    assert answer.status == (422 if inside else 403)


async def test_source_path_of_a_wrong_form_is_named(devkit: Devkit) -> None:
    for path in (1, None, "", "a" * 5000, ["/x"]):
        answer = await devkit.post("/v1/devkit/modules", json={"source": {"path": path}})
        error = await devkit.refused(answer, 422, "REQUEST_INVALID")
        assert error["details"]["errors"][0]["path"] == "/source/path"
        assert error["details"]["errors"][0]["example"]


async def test_a_folder_with_a_link_or_a_bad_manifest_is_refused(devkit: Devkit) -> None:
    linked = write_module(devkit.modules / "linked")
    (linked / "backend" / "passwd").symlink_to("/etc/passwd")
    broken = write_module(devkit.modules / "broken")
    (broken / "manifest.json").write_text('{"name": "broken", "name": "x"}')
    wrong = write_module(devkit.modules / "wrong", version="1")
    other = write_module(devkit.modules / "other")
    for folder, code in ((linked, "SOURCE_INVALID"), (broken, "SOURCE_INVALID"), (wrong, "MANIFEST_INVALID")):
        answer = await devkit.post("/v1/devkit/modules", json={"source": {"path": str(folder)}})
        await devkit.refused(answer, 422, code)
    body = {"source": {"path": str(other)}, "manifest": manifest("different")}
    await devkit.refused(await devkit.post("/v1/devkit/modules", json=body), 422, "MANIFEST_INVALID")


def _zip(*entries: tuple[str, bytes], top: bool = True, mode: int = 0) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        if top:
            archive.writestr("manifest.json", json.dumps(manifest("zipped")))
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return memory.getvalue()


def _encrypted() -> bytes:
    data = bytearray(_zip(("backend/main.py", b"x = 1")))
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = data.find(marker)
        while position >= 0:
            data[position + offset] |= 1
            position = data.find(marker, position + 4)
    return bytes(data)


def _damaged() -> bytes:
    data = bytearray(_zip(("backend/data.bin", bytes(range(256)) * 40)))
    start = data.find(b"backend/data.bin") + len(b"backend/data.bin")
    data[start : start + 40] = b"\xff" * 40
    return bytes(data)


def _bad_zips() -> Iterator[tuple[str, bytes]]:
    good = _zip(("backend/main.py", b"x = 1"))
    yield "slip", _zip(("../../evil.py", b"x"))
    yield "slip within", _zip(("backend/../../../evil.py", b"x"))
    yield "absolute", _zip(("/tmp/evil.py", b"x"))
    yield "backslash", _zip(("..\\..\\evil.py", b"x"))
    yield "drive", _zip(("C:evil.py", b"x"))
    yield "symlink", _zip(("backend/link", b"/etc/passwd"), mode=0o120777)
    yield "device", _zip(("backend/null", b""), mode=0o020666)
    yield "fifo", _zip(("backend/pipe", b""), mode=0o010666)
    yield "bomb", _zip(("backend/zeros", b"\0" * (20 * 1024 * 1024)))
    yield "many small bombs", _zip(*((f"backend/z{n}", b"\0" * 30_000) for n in range(20)))
    yield "encrypted", _encrypted()
    yield "damaged data", _damaged()
    yield "garbage", b"PK\x03\x04" + b"garbage" * 50
    yield "not a zip", b"hello"
    yield "empty", b""
    yield "cut short", good[: len(good) // 2]
    yield "no manifest", _zip(("backend/main.py", b"x"), top=False)
    yield "manifest no json", _zip(("manifest.json", b"{"), top=False)
    yield "manifest huge", _zip(("manifest.json", b" " * 1_100_000), top=False)
    yield "the same name twice", _zip(("backend/main.py", b"1"), ("./backend/main.py", b"2"))
    yield "a file and a folder", _zip(("backend", b"1"), ("backend/main.py", b"2"))
    yield "a folder and a file", _zip(("backend/main.py", b"2"), ("backend", b"1"))
    yield "a nameless file", _zip((".", b"1"))
    yield "deep", _zip(("a/" * 50 + "x", b"1"))
    yield "long name", _zip(("a" * 400, b"1"))
    yield "control characters", _zip(("backend/a\x1b[31m", b"1"))


BAD_ZIPS = dict(_bad_zips())


def _form(archive: bytes, sent: Any | None = None) -> FormData:
    form = FormData()
    if sent is not None:
        form.add_field("manifest", json.dumps(sent), content_type="application/json")
    form.add_field("source", io.BytesIO(archive), filename="source.zip", content_type="application/zip")
    return form


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive", BAD_ZIPS.values(), ids=BAD_ZIPS)
async def test_bad_zips_are_refused(devkit: Devkit, archive: bytes) -> None:
    answer = await devkit.post("/v1/devkit/modules", data=_form(archive))
    await devkit.refused(answer, 422, "SOURCE_INVALID")
    assert not list(devkit.modules.parent.rglob("evil.py"))


async def test_too_many_files_are_refused(devkit: Devkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_FILES", 10)
    for count in (11, 30):
        archive = _zip(*((f"backend/f{n}.py", b"") for n in range(count)))
        await devkit.refused(await devkit.post("/v1/devkit/modules", data=_form(archive)), 422, "SOURCE_INVALID")


async def test_an_upload_beyond_the_limit_is_refused(devkit: Devkit) -> None:
    answer = await devkit.post("/v1/devkit/modules", data=_form(b"\0" * 300 * 1024))
    await devkit.refused(answer, 413, "BODY_TOO_LARGE")
    answer = await devkit.post("/v1/devkit/modules", data=_form(b"\0" * 3 * 1024 * 1024))
    await devkit.refused(answer, 413, "BODY_TOO_LARGE")


async def test_a_manifest_that_differs_from_the_source_is_refused(devkit: Devkit) -> None:
    answer = await devkit.post("/v1/devkit/modules", data=_form(_zip(("backend/main.py", b"")), manifest("another")))
    await devkit.refused(answer, 422, "MANIFEST_INVALID")


PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
BROKEN_FORMS = {
    "no boundary in the type": ("multipart/form-data", b"--x--\r\n"),
    "garbage": ("multipart/form-data; boundary=x", b"garbage"),
    "empty": ("multipart/form-data; boundary=x", b""),
    "no parts": ("multipart/form-data; boundary=x", b"--x--\r\n"),
    "unknown part": ("multipart/form-data; boundary=x", PART % (b"file", b"{}") + b"--x--\r\n"),
    "manifest twice": ("multipart/form-data; boundary=x", PART % (b"manifest", b"{}") * 2 + b"--x--\r\n"),
    "nameless part": ("multipart/form-data; boundary=x", b"--x\r\n\r\n{}\r\n--x--\r\n"),
    "manifest not json": ("multipart/form-data; boundary=x", PART % (b"manifest", b"{") + b"--x--\r\n"),
    "manifest a list": ("multipart/form-data; boundary=x", PART % (b"manifest", b"[]") + b"--x--\r\n"),
    "cut in the headers": ("multipart/form-data; boundary=x", b"--x\r\nContent-Dispo"),
    "cut in a part": ("multipart/form-data; boundary=x", (PART % (b"source", b"PK"))[:-2]),
    "nested": (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\na\r\n--y--\r\n--x--\r\n",
    ),
    "part of base64 that is none": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="manifest"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--x--\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), BROKEN_FORMS.values(), ids=BROKEN_FORMS)
async def test_broken_forms_are_refused(devkit: Devkit, kind: str, body: bytes) -> None:
    answer = await devkit.post("/v1/devkit/modules", data=body, headers={"Content-Type": kind})
    await devkit.refused(
        answer, None, "BAD_REQUEST", "BODY_INVALID", "MEDIA_TYPE_UNSUPPORTED", "MANIFEST_INVALID", "SOURCE_INVALID"
    )


async def test_registering_nothing_is_refused(devkit: Devkit) -> None:
    for body in ({}, {"manifest": {}, "extra": 1}, {"manifest": "text"}, {"source": "/x"}, {"source": {}}):
        await devkit.refused(await devkit.post("/v1/devkit/modules", json=body), 422)


ENTRY = "backend.main:Probe"
BAD_MANIFESTS: dict[str, tuple[dict[str, Any], str]] = {
    "name missing": ({"name": ...}, "/name"),
    "name capital": ({"name": "Big"}, "/name"),
    "name short": ({"name": "ab"}, "/name"),
    "name long": ({"name": "a" * 51}, "/name"),
    "name traversal": ({"name": "../evil"}, "/name"),
    "name a number": ({"name": 5}, "/name"),
    "id traversal": ({"id": "../evil"}, "/id"),
    "id empty": ({"id": ""}, "/id"),
    "version missing": ({"version": ...}, "/version"),
    "version two parts": ({"version": "1.0"}, "/version"),
    "version leading zero": ({"version": "01.0.0"}, "/version"),
    "version traversal": ({"version": "../1.0.0"}, "/version"),
    "version a number": ({"version": 1.0}, "/version"),
    "type missing": ({"type": ...}, "/type"),
    "type unknown": ({"type": "ui"}, "/type"),
    "compute type": ({"computeType": "gpu"}, "/computeType"),
    "schema version": ({"schemaVersion": "2.0"}, "/schemaVersion"),
    "scope": ({"scope": "world"}, "/scope"),
    "description": ({"description": "a" * 501}, "/description"),
    "display name": ({"displayName": 1}, "/displayName"),
    "category": ({"category": []}, "/category"),
    "tags": ({"tags": ["a"] * 11}, "/tags"),
    "tag": ({"tags": [1]}, "/tags/0"),
    "author": ({"author": "me"}, "/author"),
    "author name": ({"author": {"email": "x"}}, "/author/name"),
    "execution missing": ({"execution": ...}, "/execution"),
    "execution text": ({"execution": ENTRY}, "/execution"),
    "entrypoint missing": ({"execution": {}}, "/execution/entrypoint"),
    "entrypoint path": ({"execution": {"entrypoint": "../evil.py:X"}}, "/execution/entrypoint"),
    "entrypoint command": ({"execution": {"entrypoint": "os:system('x')"}}, "/execution/entrypoint"),
    "supports": ({"execution": {"entrypoint": ENTRY, "supports": ["batch"]}}, "/execution/supports/0"),
    "default mode": ({"execution": {"entrypoint": ENTRY, "defaultMode": "x"}}, "/execution/defaultMode"),
    "memory": ({"resources": {"memory": 300}}, "/resources/memory"),
    "memory true": ({"resources": {"memory": True}}, "/resources/memory"),
    "memory mb": ({"resources": {"memoryMb": 1}}, "/resources/memoryMb"),
    "vcpus": ({"resources": {"vcpus": 0}}, "/resources/vcpus"),
    "gpu": ({"resources": {"gpu": -1}}, "/resources/gpu"),
    "runtime": ({"resources": {"maxRuntimeSeconds": 1}}, "/resources/maxRuntimeSeconds"),
    "timeout": ({"resources": {"timeout": 10_000}}, "/resources/timeout"),
    "database": ({"permissions": {"database": True}}, "/permissions/database"),
    "roles": ({"permissions": {"requiredRoles": ["root"]}}, "/permissions/requiredRoles/0"),
    "tier": ({"pricing": {"tiers": [{"tier": "gold", "amountAct": 1}]}}, "/pricing/tiers/0/tier"),
    "amount": ({"pricing": {"tiers": [{"tier": "advanced", "amountAct": -1}]}}, "/pricing/tiers/0/amountAct"),
    "variables": ({"environment_variables": {"A B": "x"}}, "/environment_variables"),
    "variable a list": ({"environment_variables": {"A": []}}, "/environment_variables"),
    "inputs a list": ({"inputs": []}, "/inputs"),
    "inputs no schema": ({"inputs": {"type": "nonsense"}}, "/inputs"),
    "inputs a pattern": ({"inputs": {"type": "object", "properties": {"a": {"pattern": "("}}}}, "/inputs"),
    "inputs remote": ({"inputs": {"$ref": "http://127.0.0.1:1/x.json"}}, "/inputs"),
    "inputs a file": ({"inputs": {"$ref": "file:///etc/passwd"}}, "/inputs"),
    "inputs dangling": ({"inputs": {"type": "object", "properties": {"a": {"$ref": "#/no/where"}}}}, "/inputs"),
    "inputs a circle": ({"inputs": {"$ref": "#"}}, "/inputs"),
    "inputs a long circle": (
        {
            "inputs": {
                "allOf": [{"$ref": "#/definitions/a"}],
                "definitions": {"a": {"not": {"$ref": "#/definitions/a"}}},
            }
        },
        "/inputs",
    ),
    "inputs not an object": ({"inputs": {"type": "string"}}, "/inputs"),
    "outputs": ({"outputs": {"type": 5}}, "/outputs"),
    "retired": ({"dataContextBindings": {}}, "/dataContextBindings"),
}
WITHOUT_EXAMPLE = {"/dataContextBindings"}  # the only right value is none


@pytest.mark.parametrize(("changes", "path"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
async def test_manifest_rules_are_told(devkit: Devkit, changes: dict[str, Any], path: str) -> None:
    body = {name: value for name, value in {**manifest("ruled"), **changes}.items() if value is not ...}
    answer = await devkit.post("/v1/devkit/modules", json={"manifest": body})
    error = await devkit.refused(answer, 422, "MANIFEST_INVALID")
    finding = next(finding for finding in error["details"]["errors"] if finding["path"] == path)
    assert finding["message"]
    assert finding["expected"]
    assert "example" in finding or path in WITHOUT_EXAMPLE


async def test_every_problem_of_a_manifest_is_told_at_once(devkit: Devkit) -> None:
    body = manifest("Bad Name", version="1", type="x", computeType="y")
    error = await devkit.refused(
        await devkit.post("/v1/devkit/modules", json={"manifest": body}), 422, "MANIFEST_INVALID"
    )
    assert {f["path"] for f in error["details"]["errors"]} == {"/name", "/version", "/type", "/computeType"}


async def test_a_schema_that_refers_to_itself_through_the_value_is_fine(devkit: Devkit) -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
    answer = await devkit.post("/v1/devkit/modules", json={"manifest": manifest("tree", inputs=tree)})
    assert answer.status == 201, await answer.text()
    good, bad = {"child": {"child": {}}}, {"child": {"kid": {}}}
    for parameters, status in ((good, 202), (bad, 422)):
        body = {"moduleId": "tree", "parameters": parameters, "mode": "async"}
        assert (await devkit.post("/v1/module-runs", json=body)).status == status


# --- methods and routes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/modules", "GET, HEAD"),
        ("DELETE", "/v1/module-runs", "GET, HEAD, POST"),
        ("PATCH", "/v1/modules/outside", "DELETE, GET, HEAD"),
        ("GET", "/v1/devkit/reset", "POST"),
        ("GET", "/v1/api/module-runs/x/cancel", "POST"),
        ("POST", "/v1/objects/a/b", "GET, HEAD, PUT"),
        ("POST", "/", "GET, HEAD"),
    ],
)
async def test_wrong_methods_name_the_right_ones(devkit: Devkit, method: str, path: str, allowed: str) -> None:
    answer = await devkit.client.request(method, path)
    await devkit.refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/", "/v2/modules", "/v1/modules/", "/v1/../etc", "/.env", "/%2e"])
async def test_unknown_routes(devkit: Devkit, path: str) -> None:
    url = URL(f"http://127.0.0.1:{devkit.port}{path}", encoded=True)
    await devkit.refused(await devkit.client.session.get(url), 404, "ROUTE_NOT_FOUND", "MODULE_NOT_FOUND")


# --- credentials ------------------------------------------------------------------------------------------------------

PRIVATE = [
    ("GET", "/v1/modules"),
    ("GET", "/v1/api/modules"),
    ("POST", "/v1/devkit/modules"),
    ("POST", "/v1/devkit/reset"),
    ("POST", "/v1/module-runs"),
    ("GET", "/v1/module-runs"),
    ("GET", "/v1/module-runs/{run}"),
    ("GET", "/v1/module-runs/{run}/result"),
    ("GET", "/v1/module-runs/{run}/logs"),
    ("POST", "/v1/module-runs/{run}/cancel"),
    ("POST", "/v1/module-runs/{run}/storage"),
    ("POST", "/v1/module-runs/{run}/complete"),
    ("DELETE", "/v1/devkit/modules/outside"),
    ("GET", "/v1/auth/me"),
]


@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_no_or_a_wrong_credential_is_refused(devkit: Devkit, method: str, path: str) -> None:
    address = f"{method} {path.format(run=devkit.run_id)} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    altered = devkit.token[:-1] + ("A" if devkit.token[-1] != "A" else "B")
    for credential in (
        "",
        "X-API-Key: wrong-key-0123456789abc\r\n",
        "X-API-Key: \r\n",
        f"X-API-Key: {TEST_KEY}x\r\n",
        f"X-API-Key: {TEST_KEY[:-1]}\r\n",
        "X-API-Key: \xff\xfe\r\n",
        "Authorization: Bearer abc\r\n",
        f"Authorization: Bearer {TEST_KEY}\r\n",
        f"X-API-Key: {altered}\r\n",
        "X-API-Key: hla_runtoken_\r\n",
        f"X-API-Key: hla_runtoken_{devkit.run_id}~0000000000000000~{'A' * 43}\r\n",
    ):
        status, headers, body = await send_raw(devkit.port, (address + credential + "\r\n").encode("latin-1"))
        devkit.refused_raw(status, headers, body, 401, "UNAUTHORIZED")
        assert headers["www-authenticate"].startswith("Bearer ")


async def test_a_run_token_acts_for_its_own_run_alone(devkit: Devkit) -> None:
    other = await (await devkit.post("/v1/module-runs", json={"moduleId": "outside", "mode": "async"})).json()
    devkit.before = snapshot(devkit.state)
    headers = {"X-API-Key": other["token"]}
    for method, path in (
        ("GET", f"/v1/module-runs/{devkit.run_id}"),
        ("GET", f"/v1/module-runs/{devkit.run_id}/logs"),
        ("POST", f"/v1/module-runs/{devkit.run_id}/heartbeat"),
        ("POST", f"/v1/module-runs/{devkit.run_id}/complete"),
        ("POST", f"/v1/module-runs/{devkit.run_id}/storage"),
        ("POST", f"/v1/module-runs/{devkit.run_id}/cancel"),
        ("GET", "/v1/module-runs"),
        ("POST", "/v1/module-runs"),
        ("GET", "/v1/modules"),
        ("POST", "/v1/devkit/reset"),
    ):
        await devkit.refused(await devkit.client.request(method, path, headers=headers), 403, "FORBIDDEN")
    own = await devkit.client.get(f"/v1/module-runs/{other['runId']}", headers=headers)
    assert own.status == 200


# --- run storage ------------------------------------------------------------------------------------------------------


async def _storage(devkit: Devkit, **body: Any) -> ClientResponse:
    path = f"/v1/module-runs/{devkit.run_id}/storage"
    return await devkit.post(path, json=body, headers={"X-API-Key": devkit.token})


ODD_KEYS = {
    "traversal": "../x",
    "traversal within": "a/../../x",
    "absolute": "/etc/passwd",
    "dot": "a/./b",
    "empty": "",
    "empty part": "a//b",
    "folder": "a/",
    "backslash": "..\\x",
    "control character": "a\nb",
    "very long": "a" * 5000,
    "long in bytes": "é" * 400,
    "escape": "a\x1b[0m",
}


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
async def test_odd_storage_keys_are_refused(devkit: Devkit, key: str) -> None:
    put = {"contentLength": 1, "contentSha256": base64.b64encode(b"0" * 32).decode()}
    for action, more in (("put", put), ("get", {}), ("presign", {}), ("delete", {})):
        answer = await _storage(devkit, action=action, key=key, **more)
        error = await devkit.refused(answer, 422, "OBJECT_KEY_INVALID")
        assert "/etc/passwd" not in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "copy", "key": "a"},
        {"action": 1},
        {"key": "a"},
        {"action": "get"},
        {"action": "get", "key": 5},
        {"action": "get", "key": ["a"]},
        {"action": "get", "key": "a", "bucket": "b"},
        {"action": "presign", "key": "a", "expiresIn": 0},
        {"action": "presign", "key": "a", "expiresIn": "60"},
        {"action": "presign", "key": "a", "expiresIn": 10**9},
        {"action": "put", "key": "a"},
        {"action": "put", "key": "a", "contentLength": -1, "contentSha256": "x"},
        {"action": "put", "key": "a", "contentLength": True, "contentSha256": "x"},
        {"action": "put", "key": "a", "contentLength": 1, "contentSha256": "x"},
        {"action": "put", "key": "a", "contentLength": 1, "contentSha256": "é"},
        {"action": "put", "key": "a", "contentLength": 1, "contentSha256": "AAAA", "contentType": "a\r\nX: y"},
        {"action": "put", "key": "a", "contentLength": 1, "contentSha256": "AAAA", "metadata": {"a": 1}},
        {"action": "list", "prefix": 5},
        {"action": "list", "pageToken": "!!"},
        {"action": "list", "pageToken": "é"},
        {"action": "list", "pageToken": "gICA"},
        {"action": "input", "name": ""},
    ],
)
async def test_wrong_storage_requests_are_refused(devkit: Devkit, body: dict[str, Any]) -> None:
    await devkit.refused(await _storage(devkit, **body), 422, "REQUEST_INVALID", "OBJECT_KEY_INVALID")


async def test_missing_files_and_inputs_are_told(devkit: Devkit) -> None:
    for body in ({"action": "get", "key": "a"}, {"action": "presign", "key": "a"}, {"action": "input", "name": "a"},
                 {"action": "input_manifest"}):  # fmt: skip
        await devkit.refused(await _storage(devkit, **body), 404, "OBJECT_NOT_FOUND")


async def test_too_large_announcements_are_refused(devkit: Devkit) -> None:
    digest = base64.b64encode(b"0" * 32).decode()
    answer = await _storage(devkit, action="put", key="a", contentLength=2**62, contentSha256=digest)
    await devkit.refused(answer, 413, "BODY_TOO_LARGE")
    answer = await _storage(
        devkit, action="put", key="a", contentLength=1, contentSha256=digest, metadata={"k": "v" * 5000}
    )
    await devkit.refused(answer, 422, "REQUEST_INVALID")


@pytest.mark.parametrize(
    "progress",
    [-1, 101, "40", True, [40], {"percent": "40"}, {"percent": None}, {"percent": 101}, {"percent": True}, {},
     {"percent": 1, "extra": 1}, {"percent": [1]}],
)  # fmt: skip
async def test_wrong_progress_is_refused(devkit: Devkit, progress: Any) -> None:
    path = f"/v1/module-runs/{devkit.run_id}/heartbeat"
    answer = await devkit.post(path, json={"progress": progress}, headers={"X-API-Key": devkit.token})
    error = await devkit.refused(answer, 422, "REQUEST_INVALID")
    assert error["details"]["errors"][0]["path"].startswith("/progress")


@pytest.mark.parametrize(
    "body",
    [{}, {"status": "running"}, {"status": 1}, {"status": "completed", "result": []},
     {"status": "completed", "summary": "x"}, {"status": "failed", "extra": 1}],
)  # fmt: skip
async def test_wrong_completions_are_refused(devkit: Devkit, body: dict[str, Any]) -> None:
    path = f"/v1/module-runs/{devkit.run_id}/complete"
    answer = await devkit.post(path, json=body, headers={"X-API-Key": devkit.token})
    await devkit.refused(answer, 422, "REQUEST_INVALID")


async def _put_address(devkit: Devkit, content: bytes, key: str = "out/table.csv") -> URL:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    answer = await _storage(devkit, action="put", key=key, contentLength=len(content), contentSha256=digest)
    address = urlsplit((await answer.json())["url"])
    # The client's own port: an in-process server does not know its address beforehand.
    return URL(f"http://127.0.0.1:{devkit.port}{address.path}?{address.query}", encoded=True)


async def _lines(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 4):
        yield data[start : start + 4]


@pytest.mark.parametrize(
    "sent", [b"wrong bytes!", b"short", b"right bytes and more", b"", b"\0" * 300_000], ids=lambda b: f"{len(b)}"
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_put_with_other_bytes_stores_nothing(devkit: Devkit, sent: bytes, chunked: bool) -> None:
    url = await _put_address(devkit, b"right bytes.")
    data: Any = _lines(sent[:4000]) if chunked else sent
    answer = await devkit.client.session.put(url, data=data)
    await devkit.refused(answer, 422, "CHECKSUM_MISMATCH")
    await devkit.refused(await _storage(devkit, action="get", key="out/table.csv"), 404, "OBJECT_NOT_FOUND")
    right = await devkit.client.session.put(url, data=b"right bytes.")
    assert right.status == 200, await right.text()
    before = devkit.before = snapshot(devkit.state)
    await devkit.refused(await devkit.client.session.put(url, data=sent), 422, "CHECKSUM_MISMATCH")
    got = URL((await (await _storage(devkit, action="get", key="out/table.csv")).json())["url"], encoded=True)
    answer = await devkit.client.get(got.raw_path_qs, headers={"X-API-Key": ""})
    assert answer.status == 401  # a credential that is sent must be right, signed address or not
    answer = await devkit.client.session.get(got.with_port(devkit.port), skip_auto_headers=["X-API-Key"])
    assert await answer.read() == b"right bytes."
    for name in SECURITY_HEADERS:
        assert name in answer.headers
    assert snapshot(devkit.state) == before


async def test_altered_addresses_are_refused(devkit: Devkit) -> None:
    url = await _put_address(devkit, b"content")
    base, query = f"http://127.0.0.1:{devkit.port}", dict(parse_qsl(url.raw_query_string))
    other = base64.urlsafe_b64encode(b'{"content_type":"text/html","metadata":{}}').decode()
    later = str(int(query["Expires"]) + 1)
    changes = {"Expires": later, "Size": "8", "Sha256": "0" * 64, "Info": other, "Signature": "A" * 43}
    altered = [f"{url.raw_path}?{urlencode({**query, name: value})}" for name, value in changes.items()]
    altered += [f"{url.raw_path}?{urlencode({k: v for k, v in query.items() if k != name})}" for name in query]
    altered += [
        f"{url.raw_path}x?{url.raw_query_string}",
        url.raw_path.replace("table", "other") + "?" + url.raw_query_string,
        url.raw_path.replace(devkit.run_id, "devkit-run-other") + "?" + url.raw_query_string,
        url.raw_path + "?" + urlencode({**query, "Expires": "soon"}),
        url.raw_path + "?" + quote("\u0000é"),
        url.raw_path,
    ]
    for path in altered:
        answer = await devkit.client.session.put(URL(base + path, encoded=True), data=b"content")
        await devkit.refused(answer, 403, "SIGNATURE_INVALID")
    # An address for a put is none for a get.
    await devkit.refused(await devkit.client.session.get(url), 403, "SIGNATURE_INVALID")


async def test_expired_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = UrlSigner(Signer("a-signing-secret-of-the-tests"))
    get = dict(parse_qsl(urlsplit(urls.get_url("http://x", "run", "name", 60)).query))
    expected = Expected(3, "0" * 64)
    address = urls.put_url("http://x", "run", "name", seconds=60, expected=expected, info={"content_type": "a"})
    put = dict(parse_qsl(urlsplit(address).query))
    urls.check_get("run", "name", get)
    assert urls.check_put("run", "name", put).expected == expected
    later = time.time() + 62
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(SignatureInvalid, match="expired"):
        urls.check_get("run", "name", get)
    with pytest.raises(SignatureInvalid, match="expired"):
        urls.check_put("run", "name", put)


async def test_a_put_after_the_end_of_its_run_is_refused(devkit: Devkit) -> None:
    url = await _put_address(devkit, b"content")
    await devkit.post(f"/v1/module-runs/{devkit.run_id}/cancel")
    devkit.before = snapshot(devkit.state)
    answer = await devkit.client.session.put(url, data=b"content")
    await devkit.refused(answer, 403, "SIGNATURE_INVALID")


# --- every answer -----------------------------------------------------------------------------------------------------


async def test_every_good_answer_carries_the_headers(devkit: Devkit) -> None:
    run = f"/v1/module-runs/{devkit.run_id}"
    for path in ("/", "/v1/system/version", "/v1/system/ready", "/v1/system/health", "/v1/modules", "/v1/auth/me",
                 "/v1/module-runs", run, f"{run}/logs"):  # fmt: skip
        answer = await devkit.client.get(path, headers={"X-Correlation-ID": "mine-1"})
        assert answer.status == 200
        assert answer.headers["X-Correlation-ID"] == "mine-1"
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert "Server" not in answer.headers


@pytest.mark.parametrize("sent", ["a b", "é", "a" * 300, "<script>", "../x", "a\tb", "hla_devkit_0123456789", TEST_KEY])
async def test_odd_correlation_ids_are_replaced(devkit: Devkit, sent: str) -> None:
    answer = await devkit.client.get("/v1/modules", headers={"X-Correlation-ID": sent})
    assert answer.headers["X-Correlation-ID"] != sent
    assert len(answer.headers["X-Correlation-ID"]) == 32


@pytest.mark.parametrize("error", [RuntimeError, KeyError, OSError, AssertionError, LookupError])
async def test_unexpected_errors_tell_nothing(
    devkit: Devkit, monkeypatch: pytest.MonkeyPatch, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: Any, **__: Any) -> Any:
        raise error(SECRET)

    monkeypatch.setattr(type(devkit.client.server.app[REGISTRY]), "page", explode)  # type: ignore[attr-defined]
    answer = await devkit.client.get("/v1/modules")
    body = await answer.read()
    assert answer.status == 500
    assert check_envelope(500, answer.headers, body)["code"] == "INTERNAL_ERROR"
    assert SECRET.encode() not in body
    assert error.__name__.encode() not in body
    assert SECRET in caplog.text  # the log is where it belongs


async def test_the_run_of_a_signed_object_is_checked_with_the_signer_of_the_app(devkit: Devkit) -> None:
    """A signature of another devkit's secret is none here."""
    foreign = UrlSigner(Signer("another-secret-altogether"))
    path = urlsplit(foreign.get_url("http://x", devkit.run_id, "a", 60))
    url = URL(f"http://127.0.0.1:{devkit.port}{path.path}?{path.query}", encoded=True)
    await devkit.refused(await devkit.client.session.get(url), 403, "SIGNATURE_INVALID")
    own = devkit.client.server.app[URL_SIGNER]  # type: ignore[attr-defined]
    path = urlsplit(own.get_url("http://x", devkit.run_id, "a", 60))
    url = URL(f"http://127.0.0.1:{devkit.port}{path.path}?{path.query}", encoded=True)
    await devkit.refused(await devkit.client.session.get(url), 404, "OBJECT_NOT_FOUND")
