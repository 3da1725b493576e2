"""Addresses of uploads in parts (wire-contract G)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.describe import Parameter, describe
from devkit_api.errors import (
    ChecksumMismatch,
    IdempotencyKeyReused,
    ObjectKeyInvalid,
    ParameterInvalid,
    SignatureInvalid,
    UploadConflict,
    UploadInvalid,
    UploadNotFound,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.objects.routes import URL_SIGNER
from devkit_api.objects.uploads.models import base64_of
from devkit_api.objects.uploads.schemas import (
    PartUploadBeginSchema,
    PartUploadCancelSchema,
    PartUploadCompleteSchema,
    PartUploadReceiptSchema,
    PartUploadSignSchema,
)
from devkit_api.objects.uploads.service import PARTS, PartUploads
from devkit_api.routing import Body, Route

PART_UPLOADS: web.AppKey[PartUploads] = web.AppKey("part_uploads", PartUploads)
_BEGIN, _SIGN, _COMPLETE, _CANCEL = (
    PartUploadBeginSchema(),
    PartUploadSignSchema(),
    PartUploadCompleteSchema(),
    PartUploadCancelSchema(),
)
_LONGEST_SOURCE = 100
# The part of the examples is "sequence\nSLLMWITQC\n".
_SHA256 = "KX2Gt2p6v3amK4QXuEaNOPUvxdtT3nwHrKe+KcX5u+8="  # pragma: allowlist secret
_ERRORS = (UploadNotFound, ParameterInvalid)
_KEY = Parameter(
    "Idempotency-Key", {"type": "string", "maxLength": 256}, "The body's `idempotencyKey` again, or nothing.",
    where="header",
)  # fmt: skip
_CHECKSUM = Parameter(
    "x-amz-checksum-sha256", {"type": "string", "maxLength": 64}, "As announced, in base64.", where="header"
)


@describe(
    headers=(_KEY,),
    body=PartUploadBeginSchema,
    example={"filename": "cohort.csv", "declaredSizeBytes": 19, "idempotencyKey": "cohort-of-2026-03-01"},
    answer=PartUploadReceiptSchema,
    status=201,
    errors=(UploadInvalid, IdempotencyKeyReused, ObjectKeyInvalid, ParameterInvalid),
)
async def begin_upload(request: web.Request) -> web.Response:
    """`POST /v1/data-sources/{source_id}/uploads`: plan an upload in parts, or find the one this key planned."""
    body = await read_body(request, _BEGIN)
    if request.headers.get("Idempotency-Key", body["idempotencyKey"]) != body["idempotencyKey"]:
        raise IdempotencyKeyReused
    view = await request.app[PART_UPLOADS].begin(_source(request), body, request[PRINCIPAL])
    return json_answer(view, status=201)


@describe(answer=PartUploadReceiptSchema, errors=_ERRORS)
async def get_upload(request: web.Request) -> web.Response:
    """`GET …/uploads/{upload_id}`: how far an upload is."""
    return json_answer(await request.app[PART_UPLOADS].get(*_upload(request), request[PRINCIPAL]))


@describe(
    body=PartUploadSignSchema,
    example={"revision": 0, "parts": [{"partNumber": 1, "checksumSHA256": _SHA256}]},
    answer=PartUploadReceiptSchema,
    errors=(*_ERRORS, UploadInvalid, UploadConflict),
)
async def sign_parts(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/parts`: signed addresses to put parts to."""
    body = await read_body(request, _SIGN)
    return json_answer(await request.app[PART_UPLOADS].sign(*_upload(request), body, request[PRINCIPAL]))


@describe(
    body=PartUploadCompleteSchema,
    example={"revision": 0, "parts": [{"partNumber": 1, "checksumSHA256": _SHA256, "etag": "0-18"}]},
    answer=PartUploadReceiptSchema,
    errors=(*_ERRORS, UploadInvalid, UploadConflict),
)
async def complete_upload(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/complete`: every part is there; make the file."""
    body = await read_body(request, _COMPLETE)
    return json_answer(await request.app[PART_UPLOADS].complete(*_upload(request), body, request[PRINCIPAL]))


@describe(
    body=PartUploadCancelSchema,
    example={"revision": 0},
    answer=PartUploadReceiptSchema,
    errors=(*_ERRORS, UploadConflict),
)
async def cancel_upload(request: web.Request) -> web.Response:
    """`POST …/uploads/{upload_id}/cancel`: give an upload up; a complete one stays."""
    body = await read_body(request, _CANCEL)
    return json_answer(await request.app[PART_UPLOADS].cancel(*_upload(request), body["revision"], request[PRINCIPAL]))


@describe(answer=PartUploadReceiptSchema, errors=(*_ERRORS, UploadConflict))
async def download_upload(request: web.Request) -> web.Response:
    """`GET …/uploads/{upload_id}/download`: where to read the complete file."""
    return json_answer(await request.app[PART_UPLOADS].download(*_upload(request), request[PRINCIPAL]))


@describe(
    headers=(_CHECKSUM,),
    binary_body=True,
    body_optional=True,
    errors=(SignatureInvalid, ChecksumMismatch, UploadNotFound, UploadConflict, ObjectKeyInvalid),
)
async def put_part(request: web.Request) -> web.Response:
    """`PUT /v1/objects/~upload-parts/{name}`: one part, to its signed address."""
    name = request.match_info["name"]
    expected = request.app[URL_SIGNER].check_put(PARTS, name, request.query).expected
    announced = base64_of(expected.sha256)
    if request.headers.get("x-amz-checksum-sha256", announced) != announced:
        raise ChecksumMismatch(what="x-amz-checksum-sha256")
    part = await request.app[PART_UPLOADS].put_part(name, request.content.iter_any(), expected)
    return web.Response(headers={"ETag": f'"{part.etag}"', "x-amz-checksum-sha256": announced})


def _source(request: web.Request) -> str:
    source = request.match_info["source_id"]
    if len(source) > _LONGEST_SOURCE or not source.isprintable():
        raise ParameterInvalid(name="source_id", reason=f"it has more than {_LONGEST_SOURCE} printable characters")
    return source


def _upload(request: web.Request) -> tuple[str, str]:
    return _source(request), request.match_info["upload_id"]


_UPLOADS = "/v1/data-sources/{source_id}/uploads"
_ONE = _UPLOADS + "/{upload_id}"
ROUTES = [
    Route("POST", _UPLOADS, begin_upload, "inputs:write"),
    Route("GET", _ONE, get_upload, "inputs:read"),
    Route("GET", _ONE + "/download", download_upload, "inputs:read"),
    Route("POST", _ONE + "/parts", sign_parts, "inputs:write"),
    Route("POST", _ONE + "/complete", complete_upload, "inputs:write"),
    Route("POST", _ONE + "/cancel", cancel_upload, "inputs:write"),
    Route("PUT", f"/v1/objects/{PARTS}/{{name:.+}}", put_part, "objects:signed", stream=True, body=Body.OBJECT),
]
