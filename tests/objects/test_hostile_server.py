"""An S3 server whose answers contradict each other: reading and listing end, with an error of the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from devkit_api.errors import ObjectStoreUnavailable
from devkit_api.objects.protocol import Begun, ObjectInfo
from devkit_api.objects.s3 import S3ObjectStore
from tests.support.s3 import load_s3

RUN = "devkit-run-hostile"
DATA = bytes(range(200))
KEY = f"runs/{RUN}/files/a"
# Nobody honest needs as many; the server has enough of it then, and the code before its mend fails instead of hanging.
MOST = 40
LISTED = f"<Contents><Key>{KEY}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"


@attrs.define
class Hostile:
    """Answers a get as `get` says, every list with `page`, cut off for ever or not, and deletions with `deleted`."""

    get: str = "honest"
    page: str = ""
    versioned: bool = True
    truncated: str = "true"
    deleted: str = ""
    asked: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if "versioning" in request.query:
            status = "<Status>Enabled</Status>" if self.versioned else ""
            return web.Response(text=f"<VersioningConfiguration>{status}</VersioningConfiguration>")
        if request.method == "HEAD":
            head = {"ETag": '"v"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "x-amz-version-id": "v"}
            return web.Response(body=DATA, headers=head)
        self.asked += 1
        if self.asked > MOST:
            return web.Response(status=403)
        if request.method == "POST":
            return web.Response(text=f"<DeleteResult>{self.deleted}</DeleteResult>")
        if request.query.keys() & {"list-type", "versions", "uploadId"}:
            return web.Response(text=f"<Result><IsTruncated>{self.truncated}</IsTruncated>{self.page}</Result>")
        start = int(request.headers["Range"].removeprefix("bytes=").partition("-")[0])
        told = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
        if self.get == "empty":
            return web.Response(status=206, headers=told)
        if self.get == "whole":
            return web.Response(body=DATA)
        if self.get == "longer":
            return web.Response(status=206, body=DATA[start:] + DATA, headers=told)
        return web.Response(status=206, body=DATA[start : start + 1], headers=told)  # a crumb


@pytest.fixture
async def hostile() -> AsyncIterator[tuple[Hostile, str]]:
    made, app = Hostile(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with TestServer(app) as server:
        yield made, str(server.make_url("")).rstrip("/")


@pytest.fixture
async def s3(hostile: tuple[Hostile, str], tmp_path: Path) -> AsyncIterator[S3ObjectStore]:
    store = S3ObjectStore(load_s3(hostile[1], "hostile", tmp_path / "state"), tmp_path / "state")
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize(("get", "start"), [("empty", 0), ("crumb", 0), ("whole", 5)])
async def test_a_get_that_never_gives_what_was_asked_for_ends(
    s3: S3ObjectStore, hostile: tuple[Hostile, str], get: str, start: int
) -> None:
    hostile[0].get = get
    with pytest.raises(ObjectStoreUnavailable, match="contradict"):
        [chunk async for chunk in s3.read(RUN, "a", start=start)]
    assert hostile[0].asked <= 4


@pytest.mark.parametrize(("get", "start"), [("longer", 0), ("longer", 5), ("whole", 0)])
async def test_no_more_is_read_than_was_asked_for(
    s3: S3ObjectStore, hostile: tuple[Hostile, str], get: str, start: int
) -> None:
    hostile[0].get = get
    found = b"".join([chunk async for chunk in s3.read(RUN, "a", start=start, length=10)])
    assert found == DATA[start : start + 10]


MARKED = "<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
PAGES: list[tuple[str, str]] = [
    ("list", ""), ("list", LISTED), ("delete_namespace", ""), ("delete_namespace", MARKED), ("versions", MARKED),
    ("parts", ""), ("delete_plain", LISTED), ("parts", "<NextPartNumberMarker>7</NextPartNumberMarker>"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "page"), PAGES)
async def test_a_list_that_goes_on_for_ever_ends(
    s3: S3ObjectStore, hostile: tuple[Hostile, str], what: str, page: str
) -> None:
    hostile[0].page, hostile[0].versioned = page, what != "delete_plain"
    info = ObjectInfo(name="a", size=1, sha256="", content_type="", version="v", created_at="", metadata={})
    work: dict[str, Any] = {
        "list": lambda: s3.list(RUN), "delete_namespace": lambda: s3.delete_namespace(RUN),
        "delete_plain": lambda: s3.delete_namespace(RUN),
        "versions": lambda: s3.versions(RUN, info), "parts": lambda: s3.parts(Begun(RUN, "a", "u")),
    }  # fmt: skip
    with pytest.raises(ObjectStoreUnavailable, match="contradict"):
        await work[what]()
    assert hostile[0].asked <= 3


@pytest.mark.parametrize("versioned", [True, False])
async def test_files_that_are_not_deleted_are_not_said_to_be(
    s3: S3ObjectStore, hostile: tuple[Hostile, str], versioned: bool
) -> None:
    """One answer for many: the request as a whole succeeds, whatever becomes of each of them."""
    server = hostile[0]
    server.versioned, server.truncated = versioned, "false"
    server.page = f"<Version><Key>{KEY}</Key><VersionId>v</VersionId><Size>1</Size></Version>" if versioned else LISTED
    server.deleted = f"<Error><Key>{KEY}</Key><Code>AccessDenied</Code></Error>"
    with pytest.raises(ObjectStoreUnavailable, match="did not delete"):
        await s3.delete_namespace(RUN)
    server.deleted = ""
    await s3.delete_namespace(RUN)
