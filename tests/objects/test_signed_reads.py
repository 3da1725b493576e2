"""Reading through signed addresses: ranges, conditions, names, and what is refused."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import ClientResponse
from yarl import URL

from devkit_api.objects.file_index import MAX_EARLIER
from devkit_api.objects.protocol import ObjectInfo
from devkit_api.objects.routes import OBJECTS, URL_SIGNER
from tests.objects.test_stores import put

RUN = "devkit-run-signed"
DATA = b"0123456789" * 30_000


class Reader:
    """A devkit with one stored object, and reads of it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.app = client.server.app

    async def put(self, data: bytes = DATA, name: str = "out/table.csv") -> ObjectInfo:
        return await put(self.app[OBJECTS], name, data, RUN)

    def url(self, info: ObjectInfo) -> URL:
        address = urlsplit(self.app[URL_SIGNER].get_url("http://x", RUN, info.name, 900, info.version))
        return URL(f"http://127.0.0.1:{self.client.port}{address.path}?{address.query}", encoded=True)

    async def get(self, url: URL, **headers: str) -> ClientResponse:
        return await self.client.anonymous.get(url, headers=headers)


@pytest.fixture
async def reader(make_client: Any) -> Reader:
    return Reader(await make_client())


@pytest.mark.parametrize(
    ("asked", "wanted", "told"),
    [
        ("bytes=0-9", DATA[:10], "bytes 0-9/300000"),
        ("bytes=299990-", DATA[-10:], "bytes 299990-299999/300000"),
        ("bytes=-5", DATA[-5:], "bytes 299995-299999/300000"),
        ("bytes=299999-400000", DATA[-1:], "bytes 299999-299999/300000"),
    ],
)
async def test_ranges_are_answered_with_their_bytes(reader: Reader, asked: str, wanted: bytes, told: str) -> None:
    answer = await reader.get(reader.url(await reader.put()), Range=asked)
    assert (answer.status, answer.headers["Content-Range"], await answer.read()) == (206, told, wanted)


async def test_a_range_outside_is_refused(reader: Reader) -> None:
    answer = await reader.get(reader.url(await reader.put()), Range="bytes=300000-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */300000")


async def test_conditions_are_met_by_version(reader: Reader) -> None:
    info = await reader.put()
    url, tag = reader.url(info), f'"{info.version}"'
    plain = await reader.get(url)
    assert (plain.status, plain.headers["ETag"], await plain.read()) == (200, tag, DATA)
    unchanged = await reader.get(url, **{"If-None-Match": tag})
    assert (unchanged.status, await unchanged.read()) == (304, b"")
    assert (await reader.get(url, **{"If-None-Match": '"another"'})).status == 200
    assert (await reader.get(url, **{"If-Match": '"another"'})).status == 412
    same = await reader.get(url, **{"If-Range": tag, "Range": "bytes=0-3"})
    assert (same.status, await same.read()) == (206, b"0123")
    whole = await reader.get(url, **{"If-Range": '"another"', "Range": "bytes=0-3"})
    assert (whole.status, whole.headers["ETag"], await whole.read()) == (200, tag, DATA)


async def test_a_head_gets_the_head_alone(reader: Reader) -> None:
    url = reader.url(await reader.put())
    for headers in ({}, {"If-Range": '"another"', "Range": "bytes=0-3"}):  # from the file, and streamed
        for _ in range(2):  # a body would be taken for the next answer on the connection
            answer = await reader.client.anonymous.head(url, headers=headers)
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(DATA)))


async def test_a_copied_state_directory_keeps_its_etags(reader: Reader) -> None:
    info = await reader.put()
    path = await reader.app[OBJECTS].local_path(RUN, info)
    os.utime(path, ns=(0, 0))
    unchanged = await reader.get(reader.url(info), **{"If-None-Match": f'"{info.version}"'})
    assert unchanged.status == 304


async def test_an_address_is_for_one_version(reader: Reader) -> None:
    first = reader.url(await reader.put(b"first"))
    second = reader.url(await reader.put(b"second"))
    assert await (await reader.get(first)).read() == b"first"
    assert await (await reader.get(second)).read() == b"second"
    for number in range(MAX_EARLIER):
        await reader.put(b"another %d" % number)
    gone = await reader.get(first)
    assert (gone.status, (await gone.json())["error"]["code"]) == (404, "OBJECT_REPLACED")
    assert (await reader.get(second)).status == 200


async def test_an_altered_address_is_refused(reader: Reader) -> None:
    info = await reader.put()
    url = reader.url(info)
    query = dict(parse_qsl(url.raw_query_string))
    changes = {"Expires": str(int(query["Expires"]) + 1), "Version": "f-1", "Signature": "A" * 43}
    altered = [urlencode({**query, name: value}) for name, value in changes.items()]
    altered += [urlencode({k: v for k, v in query.items() if k != name}) for name in query]
    for text in altered:
        answer = await reader.get(URL(f"{url.with_query(None)}?{text}", encoded=True))
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "SIGNATURE_INVALID"), text
    other = await reader.client.anonymous.put(url, data=b"x")
    assert (await other.json())["error"]["code"] == "SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("out/table.csv", '"table.csv"'),
        ('a"; filename=evil.html', "\"a__ filename_evil.html\"; filename*=UTF-8''a%22%3B%20filename%3Devil.html"),
        ("Größe.txt", "\"Gr__e.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.txt"),
    ],
)
async def test_file_names_are_safe_in_headers(reader: Reader, name: str, shown: str) -> None:
    answer = await reader.get(reader.url(await reader.put(b"x", name)))
    assert answer.headers["Content-Disposition"].startswith(f"attachment; filename={shown}")
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
