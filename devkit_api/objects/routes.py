"""Addresses of objects: the run's broker, and the signed addresses it hands out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from devkit_api.describe import BYTES, describe, text, whole
from devkit_api.errors import (
    ChecksumMismatch,
    ObjectKeyInvalid,
    ObjectNotFound,
    ObjectReplaced,
    RunConflict,
    RunNotFound,
    SignatureInvalid,
)
from devkit_api.httpio import attachment, int_query, json_answer, read_body, send_stream, text_query
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.objects.answers import RunFilePageSchema, StorageAnswerSchema
from devkit_api.objects.namespaces import NAMESPACE
from devkit_api.objects.protocol import CHUNK, ObjectInfo, ObjectStore
from devkit_api.objects.run_storage import PAGE, RunStorage, StorageSchema
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.routing import Body, Route
from devkit_api.runs.routes import RUNS

OBJECTS: web.AppKey[ObjectStore] = web.AppKey("objects", ObjectStore)
URL_SIGNER: web.AppKey[UrlSigner] = web.AppKey("url_signer", UrlSigner)
RUN_STORAGE: web.AppKey[RunStorage] = web.AppKey("run_storage", RunStorage)

_STORAGE = StorageSchema()
_BYTES = {"type": "string", "format": "binary"}


@describe(
    body=StorageSchema,
    example={"action": "list"},
    answer=StorageAnswerSchema,
    errors=(RunNotFound, RunConflict, ObjectNotFound, ObjectKeyInvalid),
)
async def run_storage(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/storage` (wire-contract D)."""
    run = await request.app[RUNS].callbacks.attach(request.match_info["run_id"])
    body = await read_body(request, _STORAGE)
    return json_answer(await request.app[RUN_STORAGE].answer(run, body))


@describe(
    query=(
        whole("limit", "Files on a page.", low=1, high=PAGE, default=PAGE),
        text("nextToken", "`nextToken` of the page before.", max_length=1024),
    ),
    answer=RunFilePageSchema,
    errors=(RunNotFound, ObjectKeyInvalid),
)
async def list_files(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/files?limit&nextToken`: what the run saved, and where to read it."""
    run = await request.app[RUNS].get(request.match_info["run_id"], request[PRINCIPAL])
    token = text_query(request, "nextToken", max_length=1024)
    limit = int_query(request, "limit", PAGE, low=1, high=PAGE)
    return json_answer(await request.app[RUN_STORAGE].files(run, request[PRINCIPAL], token=token, limit=limit))


@describe(binary_body=True, errors=(SignatureInvalid, ChecksumMismatch, ObjectKeyInvalid))
async def put_object(request: web.Request) -> web.Response:
    """`PUT /v1/objects/{namespace}/{name}` with a signed address."""
    namespace, name = request.match_info["namespace"], request.match_info["name"]
    grant = request.app[URL_SIGNER].check_put(namespace, name, request.query)
    async with AsyncExitStack() as until_stored:
        chunks = _while_granted(request, namespace, name, grant.expected.size, until_stored)
        info = await request.app[OBJECTS].put(namespace, name, chunks, grant.expected, grant.info)
    return web.Response(headers={"ETag": f'"{info.version}"', "x-amz-version-id": info.version})


async def _while_granted(
    request: web.Request, run_id: str, name: str, size: int, until_stored: AsyncExitStack
) -> AsyncIterator[bytes]:
    """The body, as long as the run works and what it was granted counts: what arrives later is not stored."""
    live, quota = request.app[RUNS].repository.live, request.app[RUN_STORAGE].quota

    def check() -> None:
        if live(run_id) is None:
            raise SignatureInvalid(reason="its run has ended")
        if not quota.covers(run_id, name, size):
            raise SignatureInvalid(reason="the file was deleted since, and its bytes were given back")

    check()
    async for chunk in request.content.iter_any():
        yield chunk
    await until_stored.enter_async_context(quota.alone_with(run_id, name))
    check()


@describe(
    answer=_BYTES,
    media=BYTES,
    answers={206: "The range that was asked for.", 304: "It has not changed.", 416: "There is no such range."},
    errors=(SignatureInvalid, ObjectNotFound, ObjectReplaced),
)
async def get_object(request: web.Request) -> web.StreamResponse:
    """`GET /v1/objects/{namespace}/{name}` with a signed address: ranges and conditional requests included."""
    namespace, name = request.match_info["namespace"], request.match_info["name"]
    version = request.app[URL_SIGNER].check_get(namespace, name, request.query)
    store = request.app[OBJECTS]
    if not NAMESPACE.fullmatch(namespace):
        raise ObjectNotFound(key=name)
    info = await store.stat(namespace, name, version or None)
    if info is None:
        is_there = await store.stat(namespace, name) is not None
        raise ObjectReplaced(key=name) if is_there else ObjectNotFound(key=name)
    path = await store.local_path(namespace, info)
    if path is None or _wants_another(request, info):
        return await stream_object(request, store, namespace, info)
    answer = web.FileResponse(path, chunk_size=CHUNK)
    _describe(answer, info)
    return answer


async def stream_object(
    request: web.Request, store: ObjectStore, namespace: str, info: ObjectInfo
) -> web.StreamResponse:
    """The whole object through the devkit, whatever store it lies in."""
    answer = web.StreamResponse(headers={"ETag": f'"{info.version}"'})
    _describe(answer, info)
    answer.content_length = info.size
    return await send_stream(request, answer, store.read(namespace, info.name, version=info.version))


def _wants_another(request: web.Request, info: ObjectInfo) -> bool:
    """Whether `If-Range` names another version: then the whole of this one is due. aiohttp reads dates alone there."""
    wanted = request.headers.get("If-Range", "").strip()
    return wanted.endswith('"') and wanted != f'"{info.version}"'


def _describe(answer: web.StreamResponse, info: ObjectInfo) -> None:
    answer.content_type = info.content_type.split(";")[0].strip() or "application/octet-stream"
    # A file of a module is data: no browser may run it as a page of this origin.
    answer.headers["Content-Disposition"] = attachment(info.name)
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    answer.headers["x-amz-version-id"] = info.version


ROUTES = [
    Route("POST", "/v1/module-runs/{run_id}/storage", run_storage, "runs:callback"),
    Route("GET", "/v1/module-runs/{run_id}/files", list_files, "runs:read"),
    Route("PUT", "/v1/objects/{namespace}/{name:.+}", put_object, "objects:signed", stream=True, body=Body.OBJECT),
    Route("GET", "/v1/objects/{namespace}/{name:.+}", get_object, "objects:signed", stream=True),
]
