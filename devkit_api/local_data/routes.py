"""Addresses of local data: `GET` only, nothing here changes a file."""

from __future__ import annotations

import mimetypes
from typing import BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from devkit_api.describe import BYTES, describe, text, whole
from devkit_api.errors import DataFolderTooLarge, DataNotFound, DataUnreadable, ParameterInvalid
from devkit_api.httpio import attachment, int_query, json_answer
from devkit_api.local_data.service import LocalData
from devkit_api.routing import Route

LOCAL_DATA: web.AppKey[LocalData] = web.AppKey("local_data", LocalData)

_CHUNK = 256 * 1024
_MAX_PAGE = 1000
_ROOT_PARAMETER = text("root", "An id of `/dev/data/roots`.", max_length=100, required=True)
_PATH = text("path", "Relative to the root; the root itself without it.", max_length=4096)
_ROOTS = {"type": "object", "required": ["roots"], "properties": {"roots": {"type": "array"}}}
_FOLDER = {
    "type": "object",
    "required": ["entries", "nextToken"],
    "properties": {"entries": {"type": "array"}, "nextToken": {"type": ["string", "null"]}},
}
_ERRORS = (DataNotFound, DataUnreadable, DataFolderTooLarge)


@describe(answer=_ROOTS)
async def list_roots(request: web.Request) -> web.Response:
    """`GET /dev/data/roots`: ids and labels of the configured roots."""
    return json_answer({"roots": request.app[LOCAL_DATA].describe()})


@describe(
    query=(
        _ROOT_PARAMETER,
        _PATH,
        whole("limit", "Entries on a page.", low=1, high=_MAX_PAGE, default=100),
        text("pageToken", "`nextToken` of the page before.", max_length=1024),
    ),
    answer=_FOLDER,
    errors=_ERRORS,
)
async def list_folder(request: web.Request) -> web.Response:
    """`GET /dev/data/list?root&path&limit&pageToken`: one page of a folder, folders first, by name."""
    page = await request.app[LOCAL_DATA].browse(
        _root(request),
        request.query.get("path", ""),
        limit=int_query(request, "limit", 100, low=1, high=_MAX_PAGE),
        token=request.query.get("pageToken") or None,
    )
    return json_answer({"entries": page.entries, "nextToken": page.next_token})


@describe(
    query=(_ROOT_PARAMETER, _PATH),
    answer={"type": "string", "format": "binary"},
    media=BYTES,
    answers={206: "The range that was asked for.", 304: "It has not changed.", 416: "There is no such range."},
    errors=_ERRORS,
)
async def get_file(request: web.Request) -> web.StreamResponse:
    """`GET /dev/data/file?root&path`: the bytes, with ranges and conditional requests."""
    path = request.query.get("path", "")
    answer = _OpenFile(await request.app[LOCAL_DATA].open(_root(request), path))
    answer.content_type = mimetypes.guess_type(path.rsplit("/", 1)[-1])[0] or "application/octet-stream"
    # A file of the user is data: no browser may run it as a page of this origin.
    answer.headers["Content-Disposition"] = attachment(path)
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return answer


class _OpenFile(web.FileResponse):
    """A file that is open already, closed when it has been sent.

    Named through its descriptor: what is sent is what was checked, and no `.gz` that happens to lie beside it.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(f"/proc/self/fd/{file.fileno()}", chunk_size=_CHUNK)
        self._file = file

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        try:
            return await super().prepare(request)
        finally:
            self._file.close()


def _root(request: web.Request) -> str:
    root = request.query.get("root")
    if not root:
        raise ParameterInvalid(name="root", reason="it is missing", details={"expected": "an id of /dev/data/roots"})
    return root


ROUTES = [
    Route("GET", "/dev/data/roots", list_roots, "local-data:read"),
    Route("GET", "/dev/data/list", list_folder, "local-data:read"),
    Route("GET", "/dev/data/file", get_file, "local-data:read", stream=True),
]
