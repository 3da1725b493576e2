"""Bodies of the control plane."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.catalogs.imports.targets import TARGETS
from devkit_api.catalogs.models import READABLE
from devkit_api.schemas import Base64Sha256, StrictSchema, check_media_type, printable

_KEY = r"^[a-z0-9][a-z0-9._-]{0,62}\Z"
MAX_PARTS_PER_REQUEST = 100


def _key(what: str) -> fields.String:
    expected = {"expected": "lower-case letters, digits, '.', '_', '-', at most 63", "example": what}
    return fields.String(required=True, validate=validate.Regexp(_KEY, error="has a wrong form"), metadata=expected)


def _tables(allowed: Any, **options: Any) -> Any:
    return fields.List(
        fields.String(validate=validate.OneOf(list(allowed), error="is no table of catalogs")),
        metadata={"expected": "a list of " + ", ".join(allowed)},
        **options,
    )


_IDEMPOTENCY = {"expected": "a text of your choice that names this very request"}


class CatalogCreateSchema(StrictSchema):
    """Body of `POST /v1/data-catalogs`."""

    providerKey = _key("my-lab")
    catalogKey = _key("melanoma-2026")
    schemaName = fields.String(required=True, validate=validate.Equal("observation", error="must be 'observation'"))
    label = fields.String(required=True, validate=printable(1, 200))
    sourceTables = _tables(READABLE, required=True, validate=validate.Length(1, 50))
    ingestionTables = _tables(TARGETS, allow_none=True, load_default=None, validate=validate.Length(0, 50))
    description = fields.String(load_default="", allow_none=True, validate=validate.Length(max=5_000))
    domain = fields.String(load_default="immunopeptidomics", validate=printable(1, 100))

    @validates_schema(skip_on_field_errors=True)
    def check_tables(self, data: dict[str, Any], **_: Any) -> None:
        """What is written must be readable."""
        hidden = set(data["ingestionTables"] or []) - set(data["sourceTables"])
        if hidden:
            raise ValidationError(f"names {', '.join(sorted(hidden))}, which sourceTables does not", "ingestionTables")


class CatalogPatchSchema(StrictSchema):
    """Body of `PATCH /v1/data-catalogs/{id}`."""

    label = fields.String(validate=printable(1, 200))
    description = fields.String(allow_none=True, validate=validate.Length(max=5_000))

    @validates_schema
    def check_any(self, data: dict[str, Any], **_: Any) -> None:
        """Something must change."""
        if not data:
            raise ValidationError("needs label or description")


class CatalogUploadSchema(StrictSchema):
    """Body of `POST /v1/catalogs/{id}/uploads`."""

    filename = fields.String(
        required=True,
        validate=[printable(1, 255), validate.Regexp(r"^[^/\\]+\Z", error="must be a name, not a path")],
    )
    declaredSizeBytes = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    declaredSHA256 = fields.String(
        required=True, validate=validate.Regexp(r"^[0-9a-f]{64}\Z", error="must be 64 lower-case hex digits")
    )
    idempotencyKey = fields.String(required=True, validate=printable(1, 256), metadata=_IDEMPOTENCY)
    contentType = fields.String(load_default="application/octet-stream", validate=check_media_type)


class _UploadPartSchema(StrictSchema):
    partNumber = fields.Integer(required=True, strict=True, validate=validate.Range(1, 100_000))
    checksumSHA256 = Base64Sha256(required=True)


class UploadPartsSchema(StrictSchema):
    """Body of `POST …/uploads/{u}/parts`."""

    parts = fields.List(
        fields.Nested(_UploadPartSchema), required=True, validate=validate.Length(1, MAX_PARTS_PER_REQUEST)
    )


class _StoredPartSchema(_UploadPartSchema):
    etag = fields.String(required=True, validate=validate.Length(1, 200))


class UploadCompleteSchema(StrictSchema):
    """Body of `POST …/uploads/{u}/complete`."""

    stateVersion = fields.Integer(required=True, strict=True)
    parts = fields.List(fields.Nested(_StoredPartSchema), required=True, validate=validate.Length(1, 100_000))


class StateVersionSchema(StrictSchema):
    """Body of `DELETE …/uploads/{u}` and of `POST …/cancel`."""

    stateVersion = fields.Integer(required=True, strict=True)
    reason = fields.String(load_default=None, validate=printable(1, 500))


class IngestRetrySchema(StrictSchema):
    """Body of `POST …/retry`."""

    stateVersion = fields.Integer(required=True, strict=True)
    idempotencyKey = fields.String(required=True, validate=printable(1, 256), metadata=_IDEMPOTENCY)


class _IngestSourceSchema(StrictSchema):
    sourceUri = fields.String(required=True, validate=printable(1, 2_000))
    targetTable = fields.String(required=True, validate=printable(1, 63))


class IngestSchema(StrictSchema):
    """Body of `POST /v1/data-catalogs/{id}/ingest`."""

    sourceManifest = fields.List(fields.Nested(_IngestSourceSchema), required=True, validate=validate.Length(1, 32))
    mode = fields.String(load_default="replace", validate=validate.OneOf(["replace", "append"]))
    idempotencyKey = fields.String(required=True, validate=printable(1, 256), metadata=_IDEMPOTENCY)
    versionLabel = fields.String(
        load_default=None,
        validate=validate.Regexp(
            r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}\Z", error="must be letters, digits, '.', '_', '-', at most 50"
        ),
    )
