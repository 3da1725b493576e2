"""What the devkit's own addresses answer."""

from __future__ import annotations

from marshmallow import fields, validate

from devkit_api.schemas import AnswerSchema


class IndexSchema(AnswerSchema):
    """What this is and where things are."""

    service = fields.String(required=True, validate=validate.Equal("hla-compass-devkit"))
    version = fields.String(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class VersionSchema(AnswerSchema):
    """Versions of the contract and of the devkit."""

    api_version = fields.String(required=True)
    devkit_version = fields.String(required=True)
    features = fields.Dict(required=True)


class ReadySchema(AnswerSchema):
    """Whether requests are served, and what is missing."""

    status = fields.String(required=True, validate=validate.OneOf(["ready", "not_ready"]))
    missing = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    timestamp = fields.String(required=True)


class HealthSchema(AnswerSchema):
    """Parts and counts."""

    status = fields.String(required=True, validate=validate.OneOf(["ok", "degraded"]))
    version = fields.String(required=True)
    uptimeSeconds = fields.Float(required=True)
    services = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    modules = fields.Integer(required=True)
    runs = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    queue = fields.Dict(required=True)
    timestamp = fields.String(required=True)


class ErrorListSchema(AnswerSchema):
    """Codes of answers and of runs."""

    errors = fields.List(fields.String(), required=True)
    runErrors = fields.List(fields.String(), required=True)


class ErrorPageSchema(AnswerSchema):
    """What a code means."""

    code = fields.String(required=True)
    status = fields.Integer(required=True, allow_none=True)
    meaning = fields.String(required=True)
    remedy = fields.String(required=True)
    example = fields.String(required=True)


class MeSchema(AnswerSchema):
    """Who calls."""

    success = fields.Boolean(required=True)
    data = fields.Dict(required=True)


class ResetSchema(AnswerSchema):
    """State is empty again."""

    status = fields.String(required=True, validate=validate.Equal("reset"))
