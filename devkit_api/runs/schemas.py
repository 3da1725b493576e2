"""Bodies of the run addresses."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.ids import MODULE_ID, VERSION
from devkit_api.schemas import StrictSchema

_RUN_NAMES = {"run_id": "runId", "job_id": "runId", "jobId": "runId"}
MODES = ("interactive", "async", "workflow")


def _id(value: str) -> None:
    if not MODULE_ID.fullmatch(value):
        raise ValidationError("is not a module id")


def _version(value: str) -> None:
    if not VERSION.fullmatch(value):
        raise ValidationError("is not three numbers")


class PrepareSchema(StrictSchema):
    """`POST /v1/modules/{id}/quote` (wire-contract B.2)."""

    old_names = {"compute_profile": "computeProfile", "data_context": "dataContext",
                 "max_runtime_seconds": "maxRuntimeSeconds"}  # fmt: skip
    parameters = fields.Dict(
        load_default=dict, metadata={"expected": "an object that fits the module's inputs", "example": {}}
    )
    mode = fields.String(validate=validate.OneOf(MODES), metadata={"expected": "one of " + ", ".join(MODES)})
    computeProfile = fields.String(validate=validate.Length(1, 100), allow_none=True)
    version = fields.String(
        validate=_version, allow_none=True, metadata={"expected": "three numbers", "example": "1.0.0"}
    )
    dataContext = fields.Dict(allow_none=True)
    maxRuntimeSeconds = fields.Integer(
        strict=True, validate=validate.Range(1, 7 * 86_400), metadata={"expected": "seconds, at least 1"}
    )


class StartSchema(PrepareSchema):
    """`POST /v1/module-runs` (wire-contract C.2)."""

    old_names = {**PrepareSchema.old_names, "module_id": "moduleId", "navigation_data": "navigationData",
                 "admission_id": "admissionId", "request_fingerprint": "requestFingerprint"}  # fmt: skip
    moduleId = fields.String(
        required=True,
        validate=_id,
        metadata={"expected": "the id of a registered module", "example": "peptide-counter"},
    )
    navigationData = fields.Dict(allow_none=True)
    admissionId = fields.String(validate=validate.Length(1, 100))
    requestFingerprint = fields.String(validate=validate.Length(1, 200))

    @validates_schema
    def _check_plan(self, data: dict[str, Any], **_: Any) -> None:
        if ("admissionId" in data) != ("requestFingerprint" in data):
            raise ValidationError("admissionId and requestFingerprint belong together", "admissionId")


class ExecuteSchema(StrictSchema):
    """`POST /api/execute`."""

    old_names = {"module_id": "module", "moduleId": "module"}
    input = fields.Dict(required=True, metadata={"expected": "an object that fits the module's inputs", "example": {}})
    module = fields.String(
        validate=_id, metadata={"expected": "the id of a registered module", "example": "peptide-counter"}
    )


_NO_PERCENT = "is not a number from 0 to 100"


def _is_percent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


class ProgressSchema(StrictSchema):
    """The structured progress of a heartbeat."""

    percent = fields.Raw(required=True)
    estimated_completion = fields.String(validate=validate.Length(max=64))
    milestone = fields.String(validate=validate.Length(max=1000), allow_none=True)

    @validates_schema
    def _check_percent(self, data: dict[str, Any], **_: Any) -> None:
        # Not a Float field: that takes the text "40" as well, and the number is used as it was sent.
        if not _is_percent(data["percent"]):
            raise ValidationError(_NO_PERCENT, "percent")


class HeartbeatSchema(StrictSchema):
    """`POST /v1/module-runs/{id}/heartbeat` (wire-contract C.7)."""

    old_names = {**_RUN_NAMES, "refresh_urls": "refreshUrls", "progress_message": "progressMessage"}
    runId = fields.String(validate=validate.Length(1, 200), metadata={"expected": "the run of the address"})
    refreshUrls = fields.Boolean()
    progress = fields.Raw(metadata={"expected": "a number from 0 to 100, or an object with percent", "example": 40})
    progressMessage = fields.String(validate=validate.Length(max=1000), allow_none=True)

    @validates_schema
    def _check_progress(self, data: dict[str, Any], **_: Any) -> None:
        progress = data.get("progress")
        if isinstance(progress, dict):
            problems = ProgressSchema().validate(progress)
            if problems:
                raise ValidationError({"progress": problems})
        elif progress is not None and not _is_percent(progress):
            raise ValidationError(_NO_PERCENT, "progress")


class CompleteSchema(StrictSchema):
    """`POST /v1/module-runs/{id}/complete` (wire-contract C.7); `result` is the devkit's addition."""

    old_names = _RUN_NAMES
    runId = fields.String(validate=validate.Length(1, 200), metadata={"expected": "the run of the address"})
    status = fields.String(
        required=True,
        validate=validate.OneOf(["completed", "failed"]),
        metadata={"expected": "completed or failed", "example": "completed"},
    )
    summary = fields.Dict(allow_none=True)
    result = fields.Dict(allow_none=True)
    error = fields.Raw(allow_none=True, metadata={"expected": "a text or an object with code and message"})


class RevokeSchema(StrictSchema):
    """`POST /v1/module-runs/{id}/revoke`."""

    reason = fields.String(validate=validate.Length(max=1000), allow_none=True)
