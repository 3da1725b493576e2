"""What is told with a file has to fit into headers: one that does not would be unreadable for all, in a bucket."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from devkit_api.catalogs.control.schemas import CatalogUploadSchema
from tests.objects.test_uploads import BEGIN
from tests.support.client import send_raw
from tests.support.modules import manifest
from tests.support.process import TEST_KEY

ODD = ["text/é", "text/日本", "text/csv\u2028", " text/csv", "", "x" * 201]


@pytest.fixture
async def client(make_client: Any, store_settings: dict[str, Any]) -> Any:
    return await make_client(**store_settings)


async def _refused(client: Any, path: str, body: dict[str, Any], field: str, headers: Any = None) -> None:
    async with client.post(path, json=body, headers=headers) as answer:
        told = await answer.json()
    assert answer.status == 422, told
    assert [finding["path"] for finding in told["error"]["details"]["errors"]] == [field], told


async def test_an_odd_content_type_is_refused_and_spoils_no_list(client: Any) -> None:
    for sent in (b"text/\xe9", "text/é".encode(), b"text/" + b"x" * 300):
        head = f"POST /v1/devkit/inputs/a.csv HTTP/1.1\r\nHost: x\r\nX-API-Key: {TEST_KEY}\r\nContent-Length: 1\r\n"
        status, _, body = await send_raw(client.port, head.encode() + b"Content-Type: " + sent + b"\r\n\r\nx")
        assert (status, json.loads(body)["error"]["code"]) == (415, "MEDIA_TYPE_UNSUPPORTED")
    for odd in ODD:
        asked = {"filename": "a.bin", "declaredSizeBytes": 1, "idempotencyKey": "k", "contentType": odd}
        await _refused(client, BEGIN, asked, "/contentType")
    answer = await client.get("/v1/devkit/inputs")
    assert (answer.status, (await answer.json())["items"]) == (200, [])


async def test_a_run_tells_only_what_fits_into_headers(client: Any) -> None:
    await client.post("/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    run = await (await client.post("/v1/module-runs", json={"moduleId": "elsewhere", "parameters": {}})).json()
    path, headers = f"/v1/module-runs/{run['runId']}/storage", {"X-API-Key": run["token"]}
    sha256 = base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    put = {"action": "put", "key": "a", "contentLength": 3, "contentSha256": sha256}
    for odd in ODD:
        await _refused(client, path, {**put, "contentType": odd}, "/contentType", headers)
    for metadata in ({"ä": "x"}, {"a b": "x"}, {"a\nb": "x"}, {"": "x"}, {"a": "x", "A": "y"}, {"Devkit-SHA256": "0"}):
        await _refused(client, path, {**put, "metadata": metadata}, "/metadata", headers)
    good = {**put, "contentType": "text/csv; charset=utf-8", "metadata": {"tissue-type": "Nävus\n", "n_1.x": "2"}}
    grant = await (await client.post(path, json=good, headers=headers)).json()
    url = grant["url"].replace("127.0.0.1:4100", f"127.0.0.1:{client.port}")
    async with client.anonymous.put(url, data=b"abc", headers=grant["headers"]) as answer:
        assert answer.status == 200, await answer.text()
    files = await (await client.get(f"/v1/module-runs/{run['runId']}/files")).json()
    assert [(file["name"], file["contentType"]) for file in files["files"]] == [("a", "text/csv; charset=utf-8")]


def test_an_import_file_has_a_content_type_that_headers_take() -> None:
    for odd in ODD:
        assert "contentType" in CatalogUploadSchema().validate({"contentType": odd})
    assert "contentType" not in CatalogUploadSchema().validate({"contentType": "text/csv"})
