"""What the run addresses answer."""

from __future__ import annotations

from marshmallow import fields, validate

from devkit_api.runs.models import RunStatus
from devkit_api.schemas import AnswerSchema, PaginationSchema, moment

_STATUS = validate.OneOf([status.value for status in RunStatus])


class RunProgressSchema(AnswerSchema):
    """What a module last said of its progress."""

    percent = fields.Integer(required=True)
    message = fields.String(required=True)
    estimated_completion = fields.String(required=True, allow_none=True)
    at = fields.String(required=True)


class RunErrorSchema(AnswerSchema):
    """Why a run did not complete; codes are in docs/errors.md."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Dict(required=True)


class RunSchema(AnswerSchema):
    """A run, without its output."""

    id = fields.String(required=True)
    runId = fields.String(required=True)
    moduleId = fields.String(required=True)
    module = fields.Dict(required=True)
    version = fields.String(required=True)
    sourceDigest = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, validate=_STATUS)
    executionMode = fields.String(required=True)
    external = fields.Boolean(required=True)
    waitingFor = fields.String(
        required=True, allow_none=True, metadata={"description": "What a run of an external module waits for, and how."}
    )
    parameters = fields.Dict(required=True)
    progress = fields.Nested(RunProgressSchema, required=True, allow_none=True)
    error = fields.Nested(RunErrorSchema, required=True, allow_none=True)
    summary = fields.Dict(required=True, allow_none=True)
    metrics = fields.Dict(required=True)
    correlationId = fields.String(required=True)
    createdAt = moment()
    startedAt = fields.String(required=True, allow_none=True)
    finishedAt = fields.String(required=True, allow_none=True)
    heartbeatAt = fields.String(required=True, allow_none=True)
    result = fields.Dict(allow_none=True, metadata={"description": "The output, when no mode was asked for."})
    token = fields.String(metadata={"description": "The run token of an external run, to its creator, once."})
    endpoint = fields.String(metadata={"description": "Where callbacks of an external run go."})


class RunPageSchema(AnswerSchema):
    """One page of runs, newest first unless asked otherwise."""

    runs = fields.List(fields.Nested(RunSchema), required=True)
    pagination = fields.Nested(PaginationSchema, required=True)


class PlanSchema(AnswerSchema):
    """A run that is prepared: pass it back whole to start it."""

    preparedRequest = fields.Dict(required=True)
    admissionId = fields.String(required=True)
    requestFingerprint = fields.String(required=True)
    expiresAt = fields.String(required=True)
    quote = fields.Dict(required=True)
    module = fields.Dict(required=True)


class LogEventSchema(AnswerSchema):
    """One line of a run's log."""

    timestamp = fields.Raw(required=True)
    message = fields.String(required=True)
    level = fields.String()


class LogPageSchema(AnswerSchema):
    """Some lines, and where to go on from."""

    runId = fields.String(required=True)
    events = fields.List(fields.Nested(LogEventSchema), required=True)
    nextForwardToken = fields.String(required=True)
    message = fields.String(metadata={"description": "Why there are no lines yet, when the run waits for a backend."})


class HeartbeatAnswerSchema(AnswerSchema):
    """What the devkit makes of a sign of life."""

    runId = fields.String(required=True)
    status = fields.String(required=True, validate=_STATUS)
    heartbeat = fields.String(required=True, allow_none=True)


EVENT_STREAM = {
    "type": "string",
    "description": "Server-sent events. `state` (runId, status, error, waitingFor), `progress` (percent, message, at), "
    "`log` (one line) and at last `end` (runId, status); `data` is JSON, `id` is where `Last-Event-ID` resumes. A "
    "comment keeps the connection alive.",
    "examples": [
        'event: state\nid: 0\ndata: {"runId":"devkit-run-01","status":"running","error":null,"waitingFor":null}\n\n'
        'event: progress\nid: 120\ndata: {"percent":40,"message":"Scoring","estimated_completion":null,'
        '"at":"2026-01-01T00:00:00.000Z"}\n\n'
        'event: end\nid: 480\ndata: {"runId":"devkit-run-01","status":"completed"}\n\n'
    ],
}
