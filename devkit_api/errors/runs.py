"""Runs and what they leave."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class InputInvalid(DevkitError):
    """The run's parameters break the module's input schema; nothing was queued."""

    code = "INPUT_INVALID"
    status = 422
    template = "The parameters do not fit the inputs of module {module_id!r}: {summary}."
    hint = "`details.errors[].path` is a JSON pointer into `parameters`; the schema is `inputs` of the manifest."


class RunNotFound(DevkitError):
    """No such run, or none this caller may see."""

    code = "RUN_NOT_FOUND"
    status = 404
    template = "There is no run {run_id!r}."
    hint = "GET /v1/module-runs lists the runs that are kept; finished ones leave after DEVKIT_MAX_STORED_RUNS."


class RunNotFinished(DevkitError):
    """The result is asked for before there is one."""

    code = "RUN_NOT_FINISHED"
    status = 409
    template = "Run {run_id!r} is {status}; it has no result yet."
    hint = "Poll GET /v1/module-runs/{run_id} until `status` is completed, failed, cancelled or timed_out."


class OutputDamaged(DevkitError):
    """The stored output of a run cannot be read any more."""

    code = "OUTPUT_DAMAGED"
    status = 410
    template = "The stored output of run {run_id!r} is damaged."
    hint = "Run the module again; the state directory was changed from outside, or its disk is failing."


class RunConflict(DevkitError):
    """The run's state does not allow this move."""

    code = "RUN_CONFLICT"
    status = 409
    template = "Run {run_id!r} is {status}: {reason}."
    hint = "A finished run never changes."


class QueueFull(DevkitError):
    """As many runs wait as may wait."""

    code = "QUEUE_FULL"
    status = 429
    template = "{count} runs are waiting already, which is the limit."
    hint = "Try again after the seconds in Retry-After; DEVKIT_QUEUE_LIMIT sets the limit."


class PlanInvalid(DevkitError):
    """A prepared plan was altered or has expired unused."""

    code = "PLAN_INVALID"
    status = 409
    template = "The prepared plan cannot be started: {reason}."
    hint = "Prepare it again (`hla-compass runs prepare`), and pass the whole answer unchanged."
