"""Addresses of uploads of files to import (wire-contract F.2)."""

from __future__ import annotations

import base64

from aiohttp import web

from devkit_api.catalogs.control import answers
from devkit_api.catalogs.control.requests import CATALOG_ERRORS, IDEMPOTENCY_KEY, catalog_of, same_key
from devkit_api.catalogs.control.schemas import (
    CatalogUploadSchema,
    StateVersionSchema,
    UploadCompleteSchema,
    UploadPartsSchema,
)
from devkit_api.catalogs.control.uploads import NAMESPACE, UploadService
from devkit_api.describe import Parameter, describe
from devkit_api.errors import (
    CatalogReadOnly,
    CatalogsOff,
    CatalogUploadInvalid,
    CatalogUploadNotFound,
    ChecksumMismatch,
    IdempotencyKeyReused,
    ObjectKeyInvalid,
    QueryParameterInvalid,
    SignatureInvalid,
    StateConflict,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.objects.routes import URL_SIGNER
from devkit_api.routing import Body, Route

CATALOG_UPLOADS: web.AppKey[UploadService] = web.AppKey("catalog_uploads", UploadService)

_UPLOAD, _PARTS, _COMPLETE, _STATE = (
    CatalogUploadSchema(), UploadPartsSchema(), UploadCompleteSchema(), StateVersionSchema(),
)  # fmt: skip
_CHUNK = 256 * 1024
_ERRORS = (CatalogUploadNotFound, CatalogsOff, QueryParameterInvalid, StateConflict)
# The file of the examples is "sequence\nSLLMWITQC\n", in one part.
_FILE_SHA256 = "297d86b76a7abf76a62b8417b8468d38f52fc5db53de7c07aca7be29c5f9bbef"  # pragma: allowlist secret
_PART_SHA256 = "KX2Gt2p6v3amK4QXuEaNOPUvxdtT3nwHrKe+KcX5u+8="  # pragma: allowlist secret


@describe(
    headers=(IDEMPOTENCY_KEY,),
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
    errors=(*CATALOG_ERRORS, CatalogReadOnly, CatalogUploadInvalid, IdempotencyKeyReused),
)
async def begin_upload(request: web.Request) -> web.Response:
    """`POST /v1/catalogs/{catalog_id}/uploads`: plan an upload, or find the one this key planned."""
    body = await read_body(request, _UPLOAD)
    same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[CATALOG_UPLOADS].begin(catalog_of(request), body), status=201)


@describe(answer=answers.CatalogUploadStateSchema, errors=_ERRORS)
async def get_upload(request: web.Request) -> web.Response:
    """`GET …/uploads/{upload_id}`: how far an upload is."""
    uploads = request.app[CATALOG_UPLOADS]
    return json_answer(uploads.view(await uploads.get(*_upload(request))))


@describe(
    body=UploadPartsSchema,
    example={"parts": [{"partNumber": 1, "checksumSHA256": _PART_SHA256}]},
    answer=answers.SignedPartsSchema,
    errors=(*_ERRORS, CatalogUploadInvalid),
)
async def sign_parts(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/parts`: signed addresses to put parts to."""
    body = await read_body(request, _PARTS)
    return json_answer(await request.app[CATALOG_UPLOADS].sign(*_upload(request), body["parts"]))


@describe(
    body=UploadCompleteSchema,
    example={"stateVersion": 0, "parts": [{"partNumber": 1, "checksumSHA256": _PART_SHA256, "etag": "0-18"}]},
    answer=answers.CatalogUploadStateSchema,
    errors=(*_ERRORS, CatalogUploadInvalid),
)
async def complete_upload(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/complete`: every part is there; verify the whole."""
    body = await read_body(request, _COMPLETE)
    return json_answer(await request.app[CATALOG_UPLOADS].complete(*_upload(request), body))


@describe(
    body=StateVersionSchema,
    example={"stateVersion": 0},
    answer=answers.CatalogUploadStateSchema,
    errors=_ERRORS,
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
    chunks = request.content.iter_chunked(_CHUNK)
    info = await request.app[CATALOG_UPLOADS].put_part(name, chunks, grant.expected, grant.info)
    return web.Response(headers={"ETag": f'"{info.version}"', "x-amz-version-id": info.version})


def _upload(request: web.Request) -> tuple[str, str]:
    return catalog_of(request), request.match_info["upload_id"]


_UPLOADS = "/v1/catalogs/{catalog_id}/uploads"
ROUTES = [
    Route("POST", _UPLOADS, begin_upload, "catalogs:admin"),
    Route("GET", _UPLOADS + "/{upload_id}", get_upload, "catalogs:admin"),
    Route("DELETE", _UPLOADS + "/{upload_id}", abort_upload, "catalogs:admin"),
    Route("POST", _UPLOADS + "/{upload_id}/parts", sign_parts, "catalogs:admin"),
    Route("POST", _UPLOADS + "/{upload_id}/complete", complete_upload, "catalogs:admin"),
    Route("PUT", f"/v1/objects/{NAMESPACE}/{{name:.+}}", put_part, "objects:signed", stream=True, body=Body.OBJECT),
]
