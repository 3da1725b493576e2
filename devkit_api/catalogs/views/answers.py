"""What the addresses of data views answer."""

from __future__ import annotations

from marshmallow import fields

from devkit_api.schemas import AnswerSchema, PaginationSchema, moment


class DataViewSchema(AnswerSchema):
    """A saved view: one query with its catalog, version and columns, or `sources` that have them each."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    description = fields.String(allow_none=True)
    composition = fields.String(required=True, metadata={"enum": ["single", "named"]})
    sql = fields.String()
    params = fields.List(fields.Raw(allow_none=True))
    catalogId = fields.String()
    providerKey = fields.String()
    catalogKey = fields.String()
    catalogVersionId = fields.String()
    versionPinMode = fields.String(metadata={"enum": ["pinned", "current"]})
    columns = fields.List(fields.Raw())
    sources = fields.List(fields.Dict())
    createdBy = fields.String(required=True)
    createdAt = moment()
    updatedAt = moment()


class DataViewPageSchema(AnswerSchema):
    """A page of views, newest first."""

    items = fields.List(fields.Nested(DataViewSchema), required=True)
    pagination = fields.Nested(PaginationSchema, required=True)


class DeletedDataViewSchema(AnswerSchema):
    """The view is gone."""

    id = fields.String(required=True)
    status = fields.String(required=True)


class DataViewStatusSchema(AnswerSchema):
    """Whether each query can be run, and at which version."""

    id = fields.String(required=True)
    status = fields.String(required=True, metadata={"enum": ["ready", "unavailable"]})
    sources = fields.List(fields.Dict(), required=True)


class RefreshedDataViewSchema(DataViewStatusSchema):
    """The rows each query has now."""

    refreshedAt = moment()


class ExportedFileSchema(AnswerSchema):
    """One file of an export."""

    filename = fields.String(required=True)
    downloadUrl = fields.String(required=True)
    sizeBytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    rowCount = fields.Integer(required=True)


class DataViewExportSchema(AnswerSchema):
    """A file for each query; what a single one has stands at the top as well."""

    id = fields.String(required=True)
    format = fields.String(required=True, metadata={"enum": ["CSV", "TSV", "JSON"]})
    status = fields.String(required=True)
    expiresIn = fields.Integer(required=True, metadata={"description": "Seconds."})
    files = fields.List(fields.Nested(ExportedFileSchema), required=True)
    downloadUrl = fields.String()
    sizeBytes = fields.Integer()
    sha256 = fields.String()
    rowCount = fields.Integer()
