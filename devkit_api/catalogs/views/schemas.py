"""Bodies of data views."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.catalogs.sqldoor import MAX_SQL
from devkit_api.objects.view_inputs import FORMATS
from devkit_api.schemas import StrictSchema

_NAME = validate.Regexp(r"^[^\x00-\x1f\x7f]{1,200}\Z", error="must be 1 to 200 printable characters")


class _SourceFields(StrictSchema):
    sql = fields.String(validate=validate.Length(1, MAX_SQL), metadata={"expected": "one SELECT"})
    params = fields.List(fields.Raw(allow_none=True), validate=validate.Length(max=10_000))
    catalogId = fields.UUID()
    providerKey = fields.String(validate=validate.Length(1, 63))
    catalogKey = fields.String(validate=validate.Length(1, 63))
    catalogVersionId = fields.UUID()
    versionPinMode = fields.String(validate=validate.OneOf(["pinned", "current"]))


class _NamedSource(_SourceFields):
    name = fields.String(required=True, validate=validate.Regexp(r"^[A-Za-z][A-Za-z0-9_-]{0,62}\Z"))
    source = fields.String(validate=_NAME, metadata={"expected": "the entity its rows are, such as peptides"})
    sql = fields.String(required=True, validate=validate.Length(1, MAX_SQL))


class ViewPatchSchema(_SourceFields):
    """Body of `PATCH /v1/data-views/{id}`: what is not named stays."""

    name = fields.String(validate=_NAME)
    description = fields.String(allow_none=True, validate=validate.Length(max=5_000))
    composition = fields.String(validate=validate.OneOf(["single", "named"]))
    sources = fields.List(fields.Nested(_NamedSource), validate=validate.Length(1, 20))


class ViewSchema(ViewPatchSchema):
    """Body of `POST /v1/data-views`, and what a changed view must be."""

    name = fields.String(required=True, validate=_NAME)

    @validates_schema(skip_on_field_errors=True)
    def check_shape(self, data: dict[str, Any], **_: Any) -> None:
        """A single view has `sql`, a named one has `sources`."""
        sources = data.get("sources")
        if data.get("composition", "named" if sources else "single") == "named":
            if not sources or "sql" in data:
                raise ValidationError("a named view has `sources`, each with its sql, and no sql of its own", "sources")
            names = [source["name"] for source in sources]
            if len(set(names)) < len(names):
                raise ValidationError("two sources have the same name", "sources")
        elif "sql" not in data or sources:
            raise ValidationError("a view has `sql`, or `sources` with composition 'named'", "sql")


class ExportSchema(StrictSchema):
    """Body of `POST /v1/data-views/{id}/export`."""

    format = fields.String(load_default="CSV", validate=validate.OneOf([*FORMATS, *map(str.lower, FORMATS)]))
