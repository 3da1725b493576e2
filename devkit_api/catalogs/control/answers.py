"""What the control plane answers."""

from __future__ import annotations

from marshmallow import fields

from devkit_api.schemas import AnswerSchema, moment


class CatalogVersionSchema(AnswerSchema):
    """A version, which never changes; `parentVersionId` is the one it was appended to."""

    id = fields.String(required=True)
    catalogId = fields.String(required=True)
    versionLabel = fields.String(required=True)
    mode = fields.String(required=True)
    parentVersionId = fields.String(required=True, allow_none=True)
    rowCounts = fields.Dict(required=True, allow_none=True)
    createdAt = moment()
    readyAt = moment()
    status = fields.String(required=True)


class CatalogVersionListSchema(AnswerSchema):
    """The ready versions of a catalog, newest first."""

    items = fields.List(fields.Nested(CatalogVersionSchema), required=True)


class ManagedCatalogSchema(AnswerSchema):
    """A catalog as its administrators see it."""

    id = fields.String(required=True)
    providerKey = fields.String(required=True)
    catalogKey = fields.String(required=True)
    label = fields.String(required=True)
    description = fields.String(required=True)
    domain = fields.String(required=True)
    schemaName = fields.String(required=True)
    sourceTables = fields.List(fields.String(), required=True)
    ingestionTables = fields.List(fields.String(), required=True)
    isDemo = fields.Boolean(required=True)
    createdAt = moment()
    updatedAt = moment()
    currentVersion = fields.Nested(CatalogVersionSchema, required=True, allow_none=True)


class DeletedCatalogSchema(AnswerSchema):
    """The catalog is hidden."""

    id = fields.String(required=True)
    status = fields.String(required=True)
    active = fields.Boolean(required=True)


class PartPlanSchema(AnswerSchema):
    """Into which parts the file is cut."""

    partSizeBytes = fields.Integer(required=True)
    partCount = fields.Integer(required=True)
    maxPartsPerRequest = fields.Integer(required=True)


class CatalogUploadStateSchema(AnswerSchema):
    """An upload; `s3Uri` is there once it is claimed, and an ingestion names the file by it."""

    uploadId = fields.String(required=True)
    catalogId = fields.String(required=True)
    filename = fields.String(required=True)
    declaredSizeBytes = fields.Integer(required=True)
    declaredSHA256 = fields.String(required=True)
    contentType = fields.String(required=True)
    status = fields.String(
        required=True,
        metadata={"enum": ["uploading", "verifying", "claimed", "quarantined", "aborted", "expired"]},
    )
    stateVersion = fields.Integer(required=True)
    createdAt = moment()
    updatedAt = moment()
    expiresAt = moment(required=False)
    partSigning = fields.Nested(PartPlanSchema)
    s3Uri = fields.String()
    reason = fields.String()


class SignedPartSchema(AnswerSchema):
    """Where one part goes, for exactly the announced bytes."""

    partNumber = fields.Integer(required=True)
    checksumSHA256 = fields.String(required=True, metadata={"description": "In base64."})
    sizeBytes = fields.Integer(required=True)
    uploadUrl = fields.String(required=True)


class SignedPartsSchema(AnswerSchema):
    """Addresses of parts."""

    uploadId = fields.String(required=True)
    parts = fields.List(fields.Nested(SignedPartSchema), required=True)
    expiresIn = fields.Integer(required=True, metadata={"description": "Seconds."})


class IngestionSchema(AnswerSchema):
    """A job; `outcome` tells whether the request made it or had made it before."""

    jobId = fields.String(required=True)
    catalogId = fields.String(required=True)
    mode = fields.String(required=True)
    versionLabel = fields.String(required=True, allow_none=True)
    sourceManifest = fields.List(fields.Dict(), required=True)
    status = fields.String(required=True, metadata={"enum": ["queued", "running", "completed", "failed", "cancelled"]})
    stateVersion = fields.Integer(required=True)
    retryable = fields.Boolean(required=True)
    catalogVersionId = fields.String(required=True, allow_none=True)
    cancelReason = fields.String(required=True, allow_none=True)
    createdAt = moment()
    updatedAt = moment()
    progress = fields.Dict(required=True, allow_none=True)
    attempt = fields.Dict(required=True)
    attempts = fields.Integer(required=True)
    outcome = fields.String(metadata={"enum": ["created", "replayed"]})
