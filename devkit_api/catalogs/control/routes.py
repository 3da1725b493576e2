"""Addresses of the control plane (wire-contract F.2)."""

from __future__ import annotations

import base64

from aiohttp import web

from devkit_api.catalogs.control import answers
from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.ingestions import IngestionService
from devkit_api.catalogs.control.schemas import (
    CatalogCreateSchema,
    CatalogPatchSchema,
    CatalogUploadSchema,
    IngestRetrySchema,
    IngestSchema,
    StateVersionSchema,
    UploadCompleteSchema,
    UploadPartsSchema,
)
from devkit_api.catalogs.control.uploads import NAMESPACE, UploadService
from devkit_api.describe import Parameter, describe
from devkit_api.errors import (
    CatalogExists,
    CatalogNotFound,
    CatalogReadOnly,
    CatalogsOff,
    CatalogUploadInvalid,
    CatalogUploadNotFound,
    ChecksumMismatch,
    IdempotencyKeyReused,
    IngestionInvalid,
    IngestionNotFound,
    ObjectKeyInvalid,
    QueryParameterInvalid,
    SignatureInvalid,
    StateConflict,
    VersionExists,
    VersionNotFound,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.objects.routes import OBJECTS, URL_SIGNER
from devkit_api.routing import Body, Route

ADMIN: web.AppKey[CatalogAdmin] = web.AppKey("catalog_admin", CatalogAdmin)
CATALOG_UPLOADS: web.AppKey[UploadService] = web.AppKey("catalog_uploads", UploadService)
INGESTIONS: web.AppKey[IngestionService] = web.AppKey("catalog_ingestions", IngestionService)

_CREATE, _PATCH, _UPLOAD = CatalogCreateSchema(), CatalogPatchSchema(), CatalogUploadSchema()
_PARTS, _COMPLETE, _STATE = UploadPartsSchema(), UploadCompleteSchema(), StateVersionSchema()
_INGEST, _RETRY = IngestSchema(), IngestRetrySchema()
_CHUNK = 256 * 1024
# An id in an address is a UUID, and what it names may not be there.
_ERRORS = (CatalogNotFound, CatalogsOff, QueryParameterInvalid)
_UPLOAD_ERRORS = (CatalogUploadNotFound, CatalogsOff, QueryParameterInvalid, StateConflict)
_JOB_ERRORS = (IngestionNotFound, CatalogsOff, QueryParameterInvalid)
_KEY = Parameter(
    "Idempotency-Key", {"type": "string", "maxLength": 256}, "The body's `idempotencyKey` again, or nothing.",
    where="header",
)  # fmt: skip
# The file of the examples is "sequence\nSLLMWITQC\n", in one part.
_FILE_SHA256 = "297d86b76a7abf76a62b8417b8468d38f52fc5db53de7c07aca7be29c5f9bbef"  # pragma: allowlist secret
_PART_SHA256 = "KX2Gt2p6v3amK4QXuEaNOPUvxdtT3nwHrKe+KcX5u+8="  # pragma: allowlist secret


@describe(
    body=CatalogCreateSchema,
    example={
        "providerKey": "my-lab",
        "catalogKey": "melanoma-2026",
        "schemaName": "observation",
        "label": "Melanoma, 2026",
        "sourceTables": ["peptides", "proteins"],
        "ingestionTables": ["peptides"],
    },
    answer=answers.ManagedCatalogSchema,
    status=201,
    errors=(CatalogExists, CatalogsOff),
)
async def create_catalog(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs`: a new, empty catalog. One deleted under the same keys goes for good."""
    return json_answer(await request.app[ADMIN].create(await read_body(request, _CREATE)), status=201)


@describe(answer=answers.ManagedCatalogSchema, errors=_ERRORS)
async def get_catalog(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}`: a catalog, with its current version."""
    return json_answer(await request.app[ADMIN].get(_catalog(request)))


@describe(
    body=CatalogPatchSchema,
    example={"label": "Melanoma, second cohort"},
    answer=answers.ManagedCatalogSchema,
    errors=(*_ERRORS, CatalogReadOnly),
)
async def update_catalog(request: web.Request) -> web.Response:
    """`PATCH /v1/data-catalogs/{catalog_id}`: another label or description."""
    return json_answer(await request.app[ADMIN].update(_catalog(request), await read_body(request, _PATCH)))


@describe(answer=answers.DeletedCatalogSchema, errors=(*_ERRORS, CatalogReadOnly))
async def delete_catalog(request: web.Request) -> web.Response:
    """`DELETE /v1/data-catalogs/{catalog_id}`: hide a catalog."""
    return json_answer(await request.app[ADMIN].delete(_catalog(request)))


@describe(answer=answers.CatalogVersionListSchema, errors=_ERRORS)
async def list_versions(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}/versions`: its ready versions, newest first."""
    admin = request.app[ADMIN]
    await admin.get(_catalog(request))
    return json_answer({"items": await admin.versions(_catalog(request))})


@describe(answer=answers.CatalogVersionSchema, errors=(VersionNotFound, CatalogsOff, QueryParameterInvalid))
async def get_version(request: web.Request) -> web.Response:
    """`GET /v1/data-catalog-versions/{version_id}`: one ready version."""
    return json_answer(await request.app[ADMIN].version(request.match_info["version_id"]))


@describe(
    headers=(_KEY,),
    body=CatalogUploadSchema,
    example={
        "filename": "peptides.csv",
        "declaredSizeBytes": 19,
        "declaredSHA256": _FILE_SHA256,
        "idempotencyKey": "peptides-of-2026-03-01",
        "contentType": "text/csv",
    },
    answer=answers.CatalogUploadStateSchema,
    status=201,
    errors=(*_ERRORS, CatalogReadOnly, CatalogUploadInvalid, IdempotencyKeyReused),
)
async def begin_upload(request: web.Request) -> web.Response:
    """`POST /v1/catalogs/{catalog_id}/uploads`: plan an upload, or find the one this key planned."""
    body = await read_body(request, _UPLOAD)
    _same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[CATALOG_UPLOADS].begin(_catalog(request), body), status=201)


@describe(answer=answers.CatalogUploadStateSchema, errors=_UPLOAD_ERRORS)
async def get_upload(request: web.Request) -> web.Response:
    """`GET …/uploads/{upload_id}`: how far an upload is."""
    uploads = request.app[CATALOG_UPLOADS]
    return json_answer(uploads.view(await uploads.get(*_upload(request))))


@describe(
    body=UploadPartsSchema,
    example={"parts": [{"partNumber": 1, "checksumSHA256": _PART_SHA256}]},
    answer=answers.SignedPartsSchema,
    errors=(*_UPLOAD_ERRORS, CatalogUploadInvalid),
)
async def sign_parts(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/parts`: signed addresses to put parts to."""
    body = await read_body(request, _PARTS)
    return json_answer(await request.app[CATALOG_UPLOADS].sign(*_upload(request), body["parts"]))


@describe(
    body=UploadCompleteSchema,
    example={"stateVersion": 0, "parts": [{"partNumber": 1, "checksumSHA256": _PART_SHA256, "etag": "0-18"}]},
    answer=answers.CatalogUploadStateSchema,
    errors=(*_UPLOAD_ERRORS, CatalogUploadInvalid),
)
async def complete_upload(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/complete`: every part is there; verify the whole."""
    body = await read_body(request, _COMPLETE)
    return json_answer(await request.app[CATALOG_UPLOADS].complete(*_upload(request), body))


@describe(
    body=StateVersionSchema,
    example={"stateVersion": 0},
    answer=answers.CatalogUploadStateSchema,
    errors=_UPLOAD_ERRORS,
)
async def abort_upload(request: web.Request) -> web.Response:
    """`DELETE …/uploads/{upload_id}`: give an upload up."""
    body = await read_body(request, _STATE)
    return json_answer(await request.app[CATALOG_UPLOADS].abort(*_upload(request), body["stateVersion"]))


@describe(
    headers=(
        Parameter(
            "x-amz-checksum-sha256", {"type": "string", "maxLength": 64}, "As announced, in base64.", where="header"
        ),
    ),
    binary_body=True,
    errors=(
        SignatureInvalid,
        ChecksumMismatch,
        CatalogUploadNotFound,
        CatalogsOff,
        QueryParameterInvalid,
        StateConflict,
        ObjectKeyInvalid,
    ),
)
async def put_part(request: web.Request) -> web.Response:
    """`PUT /v1/objects/~catalog-imports/{name}`: one part, to its signed address."""
    name = request.match_info["name"]
    grant = request.app[URL_SIGNER].check_put(NAMESPACE, name, request.query)
    announced = base64.b64encode(bytes.fromhex(grant.expected.sha256)).decode()
    if request.headers.get("x-amz-checksum-sha256", announced) != announced:
        raise ChecksumMismatch(what="x-amz-checksum-sha256")
    await request.app[CATALOG_UPLOADS].check_part(name)
    chunks = request.content.iter_chunked(_CHUNK)
    info = await request.app[OBJECTS].put(NAMESPACE, name, chunks, grant.expected, grant.info)
    return web.Response(headers={"ETag": f'"{info.version}"', "x-amz-version-id": info.version})


@describe(
    headers=(_KEY,),
    body=IngestSchema,
    example={
        "sourceManifest": [
            {"sourceUri": "s3://hla-compass-devkit/~catalog-imports/an-upload/peptides.csv", "targetTable": "peptides"}
        ],
        "mode": "replace",
        "idempotencyKey": "first-version",
        "versionLabel": "2026-03",
    },
    answer=answers.IngestionSchema,
    status=202,
    errors=(*_ERRORS, CatalogReadOnly, IngestionInvalid, VersionExists, IdempotencyKeyReused),
)
async def submit_ingestion(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs/{catalog_id}/ingest`: make a version of claimed uploads."""
    body = await read_body(request, _INGEST)
    _same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[INGESTIONS].submit(_catalog(request), body), status=202)


@describe(answer=answers.IngestionSchema, errors=_JOB_ERRORS)
async def get_ingestion(request: web.Request) -> web.Response:
    """`GET …/ingestions/{job_id}`: how far a job is."""
    return json_answer(await request.app[INGESTIONS].get(*_job(request)))


@describe(
    body=StateVersionSchema,
    example={"stateVersion": 2, "reason": "the wrong file"},
    answer=answers.IngestionSchema,
    errors=(*_JOB_ERRORS, StateConflict),
)
async def cancel_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/cancel`: end a job that has not ended."""
    body = await read_body(request, _STATE)
    return json_answer(await request.app[INGESTIONS].cancel(*_job(request), body))


@describe(
    headers=(_KEY,),
    body=IngestRetrySchema,
    example={"stateVersion": 3, "idempotencyKey": "first-version-again"},
    answer=answers.IngestionSchema,
    status=202,
    errors=(*_JOB_ERRORS, StateConflict, IdempotencyKeyReused),
)
async def retry_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/retry`: try a failed job again."""
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
