"""What the module addresses answer."""

from __future__ import annotations

from marshmallow import fields, validate

from devkit_api.schemas import AnswerSchema, PaginationSchema, moment


class ModuleSchema(AnswerSchema):
    """A module as lists show it: the newest version."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    display_name = fields.String(required=True)
    version = fields.String(required=True, metadata={"example": "1.0.0"})
    state = fields.String(required=True)
    deploymentStatus = fields.String(required=True, validate=validate.OneOf(["external", "ready"]))
    description = fields.String(required=True)
    type = fields.String(required=True, validate=validate.OneOf(["no-ui", "with-ui"]))
    computeType = fields.String(required=True)
    category = fields.String(required=True)
    tags = fields.List(fields.Raw(), required=True)
    visibility = fields.String(required=True)
    permissions = fields.Dict(required=True)
    pricing = fields.Dict(required=True)
    external = fields.Boolean(required=True, metadata={"description": "Its runs wait for a backend to attach."})
    registeredAt = moment()


class ModuleDetailsSchema(ModuleSchema):
    """A module with its manifest and where its source came from."""

    manifest = fields.Dict(required=True)
    source = fields.Dict(required=True)
    sourceStatus = fields.Dict(required=True)
    versions = fields.List(fields.Raw(), metadata={"description": "Versions that are registered."})


class ModulePageSchema(AnswerSchema):
    """One page of modules."""

    items = fields.List(fields.Nested(ModuleSchema), required=True)
    pagination = fields.Nested(PaginationSchema, required=True)


class RegisteredSchema(AnswerSchema):
    """A registration that was taken."""

    status = fields.String(required=True, validate=validate.Equal("registered"))
    module = fields.Nested(ModuleDetailsSchema, required=True)


class DeletedModuleSchema(AnswerSchema):
    """A module that is gone."""

    status = fields.String(required=True, validate=validate.Equal("deleted"))
    moduleId = fields.String(required=True)
