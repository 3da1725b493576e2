"""Bodies and answers of uploads in parts."""

from __future__ import annotations

from marshmallow import fields, validate

from devkit_api.objects.protocol import MAX_PARTS
from devkit_api.schemas import AnswerSchema, Base64Sha256, StrictSchema, check_media_type, printable

MAX_PARTS_PER_REQUEST = 100
_REVISION = {"expected": "the `revision` of the upload"}


class PartUploadBeginSchema(StrictSchema):
    """Body of `POST /v1/data-sources/{source_id}/uploads`."""

    filename = fields.String(
        required=True,
        validate=[printable(1, 255), validate.Regexp(r"^[^/\\]+\Z", error="must be a name, not a path")],
    )
    declaredSizeBytes = fields.Integer(required=True, strict=True, validate=validate.Range(0))
    idempotencyKey = fields.String(
        required=True, validate=printable(1, 256), metadata={"expected": "a text of your choice that names this upload"}
    )
    prefix = fields.String(
        load_default="",
        validate=validate.Regexp(r"^(?:[^\\]{0,254}[^/\\]/)?\Z", error="must be a relative folder that ends in '/'"),
        metadata={"example": "analysis/"},
    )
    contentType = fields.String(load_default="application/octet-stream", validate=check_media_type)


class _PlannedPartSchema(StrictSchema):
    partNumber = fields.Integer(required=True, strict=True, validate=validate.Range(1, MAX_PARTS))
    checksumSHA256 = Base64Sha256(required=True)


class PartUploadSignSchema(StrictSchema):
    """Body of `POST …/uploads/{upload_id}/parts`."""

    revision = fields.Integer(required=True, strict=True, metadata=_REVISION)
    parts = fields.List(
        fields.Nested(_PlannedPartSchema), required=True, validate=validate.Length(1, MAX_PARTS_PER_REQUEST)
    )


class _SentPartSchema(_PlannedPartSchema):
    etag = fields.String(required=True, validate=validate.Length(1, 200))


class PartUploadCompleteSchema(StrictSchema):
    """Body of `POST …/uploads/{upload_id}/complete`."""

    revision = fields.Integer(required=True, strict=True, metadata=_REVISION)
    parts = fields.List(fields.Nested(_SentPartSchema), required=True, validate=validate.Length(1, MAX_PARTS))


class PartUploadCancelSchema(StrictSchema):
    """Body of `POST …/uploads/{upload_id}/cancel`."""

    revision = fields.Integer(required=True, strict=True, metadata=_REVISION)


class PartUploadReceiptSchema(AnswerSchema):
    """What is known of an upload in parts."""

    uploadId = fields.String(required=True)
    sourceId = fields.String(required=True)
    filename = fields.String(required=True)
    declaredSizeBytes = fields.Integer(required=True)
    partSizeBytes = fields.Integer(required=True)
    status = fields.String(
        required=True, metadata={"description": "uploading, completing, complete, cancelled, expired"}
    )
    revision = fields.Integer(required=True)
    parts = fields.List(
        fields.Dict(), required=True, metadata={"description": "Stored parts; after signing, addresses."}
    )
    verifiedComplete = fields.Boolean(required=True)
    versionId = fields.String()
    transportChecksumSHA256 = fields.String()
    s3Uri = fields.String(metadata={"description": "The name a run's data context calls the file by."})
