"""Addresses of the control plane (wire-contract F.2)."""

from __future__ import annotations

import base64

from aiohttp import web

from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.ingestions import IngestionService
from devkit_api.catalogs.control.schemas import (
    CatalogCreateSchema,
    CatalogPatchSchema,
    CompleteSchema,
    IngestSchema,
    PartsSchema,
    RetrySchema,
    StateSchema,
    UploadSchema,
)
from devkit_api.catalogs.control.uploads import NAMESPACE, UploadService
from devkit_api.errors import ChecksumMismatch, IdempotencyKeyReused
from devkit_api.httpio import json_answer, read_body
from devkit_api.objects.routes import OBJECTS, URL_SIGNER
from devkit_api.routing import Body, Route

ADMIN: web.AppKey[CatalogAdmin] = web.AppKey("catalog_admin", CatalogAdmin)
CATALOG_UPLOADS: web.AppKey[UploadService] = web.AppKey("catalog_uploads", UploadService)
INGESTIONS: web.AppKey[IngestionService] = web.AppKey("catalog_ingestions", IngestionService)

_CREATE, _PATCH, _UPLOAD, _PARTS = CatalogCreateSchema(), CatalogPatchSchema(), UploadSchema(), PartsSchema()
_COMPLETE, _STATE, _INGEST, _RETRY = CompleteSchema(), StateSchema(), IngestSchema(), RetrySchema()
_CHUNK = 256 * 1024


async def create_catalog(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs`."""
    return json_answer(await request.app[ADMIN].create(await read_body(request, _CREATE)), status=201)


async def get_catalog(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}`."""
    return json_answer(await request.app[ADMIN].get(_catalog(request)))


async def update_catalog(request: web.Request) -> web.Response:
    """`PATCH /v1/data-catalogs/{catalog_id}`."""
    return json_answer(await request.app[ADMIN].update(_catalog(request), await read_body(request, _PATCH)))


async def delete_catalog(request: web.Request) -> web.Response:
    """`DELETE /v1/data-catalogs/{catalog_id}`."""
    return json_answer(await request.app[ADMIN].delete(_catalog(request)))


async def list_versions(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}/versions`."""
    admin = request.app[ADMIN]
    await admin.get(_catalog(request))
    return json_answer({"items": await admin.versions(_catalog(request))})


async def get_version(request: web.Request) -> web.Response:
    """`GET /v1/data-catalog-versions/{version_id}`."""
    return json_answer(await request.app[ADMIN].version(request.match_info["version_id"]))


async def begin_upload(request: web.Request) -> web.Response:
    """`POST /v1/catalogs/{catalog_id}/uploads`."""
    body = await read_body(request, _UPLOAD)
    _same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[CATALOG_UPLOADS].begin(_catalog(request), body), status=201)


async def get_upload(request: web.Request) -> web.Response:
    """`GET …/uploads/{upload_id}`."""
    uploads = request.app[CATALOG_UPLOADS]
    return json_answer(uploads.view(await uploads.get(*_upload(request))))


async def sign_parts(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/parts`."""
    body = await read_body(request, _PARTS)
    return json_answer(await request.app[CATALOG_UPLOADS].sign(*_upload(request), body["parts"]))


async def complete_upload(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/complete`."""
    body = await read_body(request, _COMPLETE)
    return json_answer(await request.app[CATALOG_UPLOADS].complete(*_upload(request), body))


async def abort_upload(request: web.Request) -> web.Response:
    """`DELETE …/uploads/{upload_id}`."""
    body = await read_body(request, _STATE)
    return json_answer(await request.app[CATALOG_UPLOADS].abort(*_upload(request), body["stateVersion"]))


async def put_part(request: web.Request) -> web.Response:
    """`PUT /v1/objects/~catalog-imports/{name}` with a signed address."""
    name = request.match_info["name"]
    grant = request.app[URL_SIGNER].check_put(NAMESPACE, name, request.query)
    announced = base64.b64encode(bytes.fromhex(grant.expected.sha256)).decode()
    if request.headers.get("x-amz-checksum-sha256", announced) != announced:
        raise ChecksumMismatch(what="x-amz-checksum-sha256")
    await request.app[CATALOG_UPLOADS].check_part(name)
    chunks = request.content.iter_chunked(_CHUNK)
    info = await request.app[OBJECTS].put(NAMESPACE, name, chunks, grant.expected, grant.info)
    return web.Response(headers={"ETag": f'"{info.version}"', "x-amz-version-id": info.version})


async def submit_ingestion(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs/{catalog_id}/ingest`."""
    body = await read_body(request, _INGEST)
    _same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[INGESTIONS].submit(_catalog(request), body), status=202)


async def get_ingestion(request: web.Request) -> web.Response:
    """`GET …/ingestions/{job_id}`."""
    return json_answer(await request.app[INGESTIONS].get(*_job(request)))


async def cancel_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/cancel`."""
    body = await read_body(request, _STATE)
    return json_answer(await request.app[INGESTIONS].cancel(*_job(request), body))


async def retry_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/retry`."""
    body = await read_body(request, _RETRY)
    _same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[INGESTIONS].retry(*_job(request), body), status=202)


def _catalog(request: web.Request) -> str:
    return request.match_info["catalog_id"]


def _upload(request: web.Request) -> tuple[str, str]:
    return _catalog(request), request.match_info["upload_id"]


def _job(request: web.Request) -> tuple[str, str]:
    return _catalog(request), request.match_info["job_id"]


def _same_key(request: web.Request, key: str) -> None:
    """The SDK sends the key in the header as well; two different ones would be two requests in one."""
    if request.headers.get("Idempotency-Key", key) != key:
        raise IdempotencyKeyReused


_CATALOG = "/v1/data-catalogs/{catalog_id}"
_UPLOADS = "/v1/catalogs/{catalog_id}/uploads"
_JOB = _CATALOG + "/ingestions/{job_id}"
ROUTES = [
    Route("POST", "/v1/data-catalogs", create_catalog, "catalogs:admin"),
    Route("GET", _CATALOG, get_catalog, "catalogs:read"),
    Route("PATCH", _CATALOG, update_catalog, "catalogs:admin"),
    Route("DELETE", _CATALOG, delete_catalog, "catalogs:admin"),
    Route("GET", _CATALOG + "/versions", list_versions, "catalogs:read"),
    Route("GET", "/v1/data-catalog-versions/{version_id}", get_version, "catalogs:read"),
    Route("POST", _UPLOADS, begin_upload, "catalogs:admin"),
    Route("GET", _UPLOADS + "/{upload_id}", get_upload, "catalogs:admin"),
    Route("DELETE", _UPLOADS + "/{upload_id}", abort_upload, "catalogs:admin"),
    Route("POST", _UPLOADS + "/{upload_id}/parts", sign_parts, "catalogs:admin"),
    Route("POST", _UPLOADS + "/{upload_id}/complete", complete_upload, "catalogs:admin"),
    Route("PUT", f"/v1/objects/{NAMESPACE}/{{name:.+}}", put_part, "objects:signed", stream=True, body=Body.OBJECT),
    Route("POST", _CATALOG + "/ingest", submit_ingestion, "catalogs:admin"),
    Route("GET", _JOB, get_ingestion, "catalogs:admin"),
    Route("POST", _JOB + "/cancel", cancel_ingestion, "catalogs:admin"),
    Route("POST", _JOB + "/retry", retry_ingestion, "catalogs:admin"),
]
