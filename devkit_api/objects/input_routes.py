"""Addresses of uploads: local files that runs read as named sources."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from devkit_api.describe import describe, text, whole
from devkit_api.errors import BodyTooLarge, MediaTypeUnsupported, ObjectKeyInvalid, ObjectNotFound, RunQuotaExceeded
from devkit_api.httpio import BODY_LIMITS, int_query, json_answer, text_query
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.objects.inputs import Inputs
from devkit_api.objects.protocol import CHUNK
from devkit_api.objects.run_storage import from_token, to_token
from devkit_api.routing import Body, Route
from devkit_api.schemas import is_media_type

_UPLOAD = {"type": "object", "description": "What was stored: its id, name, size and digest."}
_PAGE = {
    "type": "object",
    "required": ["items", "nextToken"],
    "properties": {"items": {"type": "array"}, "nextToken": {"type": ["string", "null"]}},
}
INPUTS: web.AppKey[Inputs] = web.AppKey("inputs", Inputs)


@describe(
    binary_body=True,
    body_optional=True,
    answer=_UPLOAD,
    status=201,
    errors=(MediaTypeUnsupported, ObjectKeyInvalid, RunQuotaExceeded),
)
async def upload_input(request: web.Request) -> web.Response:
    """`POST /v1/devkit/inputs/{filename}`: the body is the file."""
    content_type = request.headers.get("Content-Type", "application/octet-stream")
    if not is_media_type(content_type):
        expected = "1 to 200 printable ASCII characters"
        raise MediaTypeUnsupported(content_type=content_type[:100], expected=expected)
    view = await request.app[INPUTS].upload(
        request.match_info["filename"], content_type, _body(request), request[PRINCIPAL]
    )
    return json_answer(view, status=201)


@describe(
    query=(
        whole("limit", "Uploads on a page.", low=1, high=1000, default=100),
        text("nextToken", "`nextToken` of the page before.", max_length=1024),
    ),
    answer=_PAGE,
    errors=(ObjectKeyInvalid,),
)
async def list_inputs(request: web.Request) -> web.Response:
    """`GET /v1/devkit/inputs?limit&nextToken`."""
    uploads, more = await request.app[INPUTS].uploads(
        request[PRINCIPAL],
        after=from_token(text_query(request, "nextToken", max_length=1024)),
        limit=int_query(request, "limit", 100, low=1, high=1000),
    )
    return json_answer({"items": uploads, "nextToken": to_token(more) if more else None})


@describe(answer={"type": "object"}, errors=(ObjectNotFound,))
async def delete_input(request: web.Request) -> web.Response:
    """`DELETE /v1/devkit/inputs/{upload_id}`: runs keep what they froze of it."""
    upload_id = request.match_info["upload_id"]
    await request.app[INPUTS].delete_upload(upload_id, request[PRINCIPAL])
    return json_answer({"deleted": True, "uploadId": upload_id})


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    limit, size = request.app[BODY_LIMITS].object_bytes, 0
    async for chunk in request.content.iter_chunked(CHUNK):
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
        yield chunk


ROUTES = [
    Route("GET", "/v1/devkit/inputs", list_inputs, "inputs:read"),
    Route("POST", "/v1/devkit/inputs/{filename}", upload_input, "inputs:write", stream=True, body=Body.OBJECT),
    Route("DELETE", "/v1/devkit/inputs/{upload_id}", delete_input, "inputs:write"),
]
