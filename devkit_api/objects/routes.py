"""Addresses of objects: the run's broker, and the signed addresses it hands out."""

from __future__ import annotations

from aiohttp import web

from devkit_api.describe import BYTES, describe, text, whole
from devkit_api.errors import (
    ChecksumMismatch,
    ObjectKeyInvalid,
    ObjectNotFound,
    RunConflict,
    RunNotFound,
    SignatureInvalid,
)
from devkit_api.httpio import attachment, int_query, json_answer, read_body, text_query
from devkit_api.ids import RUN_ID
from devkit_api.objects.answers import RunFilePageSchema, StorageAnswerSchema
from devkit_api.objects.protocol import ObjectStore
from devkit_api.objects.run_storage import PAGE, RunStorage, StorageSchema
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.routing import Route
from devkit_api.runs.routes import RUNS

OBJECTS: web.AppKey[ObjectStore] = web.AppKey("objects", ObjectStore)
URL_SIGNER: web.AppKey[UrlSigner] = web.AppKey("url_signer", UrlSigner)
RUN_STORAGE: web.AppKey[RunStorage] = web.AppKey("run_storage", RunStorage)

_STORAGE = StorageSchema()
_CHUNK = 256 * 1024
_BYTES = {"type": "string", "format": "binary"}


@describe(
    body=StorageSchema,
    example={"action": "list"},
    answer=StorageAnswerSchema,
    errors=(RunNotFound, RunConflict, ObjectNotFound, ObjectKeyInvalid),
)
async def run_storage(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/storage` (wire-contract D)."""
    run = await request.app[RUNS].attach(request.match_info["run_id"])
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
    run = await request.app[RUNS].get(request.match_info["run_id"])
    token = text_query(request, "nextToken", max_length=1024)
    limit = int_query(request, "limit", PAGE, low=1, high=PAGE)
    return json_answer(await request.app[RUN_STORAGE].files(run.run_id, token=token, limit=limit))


@describe(binary_body=True, errors=(SignatureInvalid, ChecksumMismatch, ObjectKeyInvalid))
async def put_object(request: web.Request) -> web.Response:
    """`PUT /v1/objects/{run_id}/{name}` with a signed address."""
    run_id, name = request.match_info["run_id"], request.match_info["name"]
    grant = request.app[URL_SIGNER].check_put(run_id, name, request.query)
    if request.app[RUNS].repository.live(run_id) is None:
        raise SignatureInvalid(reason="its run has ended")
    chunks = request.content.iter_chunked(_CHUNK)
    info = await request.app[OBJECTS].put(run_id, name, chunks, grant.expected, grant.info)
    return web.Response(headers={"ETag": f'"{info.version}"', "x-amz-version-id": info.version})


@describe(
    answer=_BYTES,
    media=BYTES,
    answers={206: "The range that was asked for.", 304: "It has not changed.", 416: "There is no such range."},
    errors=(SignatureInvalid, ObjectNotFound),
)
async def get_object(request: web.Request) -> web.StreamResponse:
    """`GET /v1/objects/{run_id}/{name}` with a signed address: ranges and conditional requests included."""
    run_id, name = request.match_info["run_id"], request.match_info["name"]
    request.app[URL_SIGNER].check_get(run_id, name, request.query)
    store = request.app[OBJECTS]
    info = await store.stat(run_id, name) if RUN_ID.fullmatch(run_id) else None
    path = await store.local_path(run_id, name) if info else None
    if info is None or path is None:
        raise ObjectNotFound(key=name)
    answer = web.FileResponse(path, chunk_size=_CHUNK)
    answer.content_type = info.content_type.split(";")[0].strip() or "application/octet-stream"
    # A file of a module is data: no browser may run it as a page of this origin.
    answer.headers["Content-Disposition"] = attachment(name)
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return answer


ROUTES = [
    Route("POST", "/v1/module-runs/{run_id}/storage", run_storage, "runs:callback"),
    Route("GET", "/v1/module-runs/{run_id}/files", list_files, "runs:read"),
    Route("PUT", "/v1/objects/{run_id}/{name:.+}", put_object, "objects:signed"),
    Route("GET", "/v1/objects/{run_id}/{name:.+}", get_object, "objects:signed"),
]
