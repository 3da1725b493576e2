"""Bodies of the publish calls (wire-contract B.4)."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.ids import VERSION
from devkit_api.modules.schemas import _about, _full
from devkit_api.schemas import StrictSchema

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRINTABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?")
_IMAGE = re.compile(r"[\x21-\x7e]{1,500}")
_TARGETS = ("auto", "lambda", "fargate", "batch")


def _sha256() -> fields.String:
    return fields.String(
        required=True,
        validate=_full(_SHA256, "is not a SHA-256 in hex"),
        metadata=_about("64 lower-case hex digits", "0" * 64),
    )


def _size() -> fields.Integer:
    return fields.Integer(
        required=True, strict=True, validate=validate.Range(1), metadata=_about("bytes, at least 1", 4096)
    )


class _About(StrictSchema):
    """What every publish body says."""

    manifest = fields.Dict(required=True, metadata=_about("the signed manifest", {"name": "peptide-counter"}))
    scope = fields.String(
        load_default="org", validate=validate.OneOf(["org", "public"]), metadata=_about("org or public", "org")
    )
    orgId = fields.String(
        allow_none=True, validate=validate.Length(max=200), metadata=_about("an organisation's id", "…")
    )
    idempotencyKey = fields.String(
        validate=_full(_PRINTABLE, "is not 1 to 256 printable ASCII characters"),
        metadata=_about("1 to 256 printable ASCII characters", "0d4ea0c6-…"),
    )


class GrantSchema(_About):
    """`POST /v1/modules/publish/source-upload`."""

    sha256 = _sha256()
    sizeBytes = _size()

    @validates_schema
    def _check_key(self, data: dict[str, Any], **_: Any) -> None:
        if "idempotencyKey" not in data:
            raise ValidationError("is missing", "idempotencyKey")


class UploadedSchema(StrictSchema):
    """`sourceUpload` of a submission."""

    sha256 = _sha256()
    sizeBytes = _size()


class SubmitSchema(_About):
    """`POST /v1/modules/publish`: with exactly one of the three ways to name the code."""

    sourceUpload = fields.Nested(UploadedSchema, metadata=_about("an object with sha256 and sizeBytes", {}))
    sourceZipBase64 = fields.String(metadata=_about("a zip in base64", "UEsDB…"))
    imageRef = fields.String(
        validate=_full(_IMAGE, "is not an image reference"),
        metadata=_about("an image reference", "ghcr.io/lab/peptide-counter@sha256:…"),
    )
    dryRun = fields.Boolean(metadata=_about("true or false", False))

    @validates_schema
    def _check_one(self, data: dict[str, Any], **_: Any) -> None:
        named = [name for name in ("sourceUpload", "sourceZipBase64", "imageRef") if name in data]
        if len(named) != 1:
            raise ValidationError("give exactly one of sourceUpload, sourceZipBase64 and imageRef", "sourceUpload")
        if data.get("dryRun") and named != ["imageRef"]:
            raise ValidationError("is for images; a source is examined by `hla-compass publish --dry-run`", "dryRun")


class ActivateSchema(StrictSchema):
    """`PUT /v1/modules/{module_id}/publish`."""

    version = fields.String(
        required=True, validate=_full(VERSION, "is not three numbers"), metadata=_about("three numbers", "1.0.0")
    )
    notes = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=2000),
        metadata=_about("at most 2000 characters", "First release"),
    )


class DeploySchema(StrictSchema):
    """`POST /v1/modules/{module_id}/deploy`."""

    deployment_target = fields.String(
        load_default="auto", validate=validate.OneOf(_TARGETS), metadata=_about("one of " + ", ".join(_TARGETS), "auto")
    )
    version = fields.String(validate=_full(VERSION, "is not three numbers"), metadata=_about("three numbers", "1.0.0"))
    configuration = fields.Dict(metadata=_about("an object; nothing of it applies here", {}))
