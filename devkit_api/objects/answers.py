"""What the addresses of saved files answer."""

from __future__ import annotations

from marshmallow import fields

from devkit_api.schemas import AnswerSchema


class StorageAnswerSchema(AnswerSchema):
    """The broker's answer; which fields there are depends on the action."""

    url = fields.String(metadata={"description": "A signed address for one transfer (put, get, presign)."})
    method = fields.String()
    headers = fields.Dict()
    s3Uri = fields.String()
    expiresIn = fields.Integer()
    objects = fields.List(fields.Dict())
    nextToken = fields.String(allow_none=True)
    deleted = fields.Boolean()


class RunFileSchema(AnswerSchema):
    """A file a run saved."""

    name = fields.String(required=True)
    s3Uri = fields.String(required=True)
    sizeBytes = fields.Integer(required=True)
    contentType = fields.String(required=True)
    sha256 = fields.String(required=True)
    createdAt = fields.String(required=True)
    url = fields.String(required=True, metadata={"description": "Where it can be read for a while."})


class RunFilePageSchema(AnswerSchema):
    """One page of a run's files."""

    runId = fields.String(required=True)
    files = fields.List(fields.Nested(RunFileSchema), required=True)
    nextToken = fields.String(required=True, allow_none=True)
