"""Why runs fail: one row per code, and the rule that turns an outcome of the executor into a verdict."""

from __future__ import annotations

import signal
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.execution.protocol import Gone, Outcome, StopReason
from devkit_api.runs.log_events import clean
from devkit_api.runs.models import RunError, RunStatus

FAILURES: dict[str, str] = {
    "MODULE_ERROR": "The module reported an error of its own (`self.error` or `ModuleError`).",
    "MODULE_EXCEPTION": "The module's code raised an exception.",
    "MODULE_VALIDATION_FAILED": "The module refused its input, or its output breaks its own contract.",
    "MODULE_IMPORT_FAILED": "The module, or something it imports, could not be imported.",
    "MODULE_PERMISSION_DENIED": "The module was denied something it tried to do.",
    "RUN_TIMED_OUT": "The run took longer than its limit and was ended.",
    "RUN_OUT_OF_MEMORY": "The module asked for more memory than it may have.",
    "RUN_CANCELLED": "The run was cancelled.",
    "RUN_NO_OUTPUT": "The module's process ended without writing an output.",
    "RUN_KILLED": "The module's process was ended by a signal.",
    "RUN_OUTPUT_INVALID": "The module's output is not a JSON object the devkit can keep.",
    "RUN_OUTPUT_TOO_LARGE": "The module's output is larger than DEVKIT_MAX_OUTPUT_BYTES.",
    "RUN_DISK_LIMIT": "The run had more on the disk than DEVKIT_MAX_WORK_MB or DEVKIT_MAX_WORK_FILES allow.",
    "RUN_EXIT_CODE": "The module wrote an output, and its process still ended with an error.",
    "RUN_WORKER_LOST": "The worker of the cluster that executed the run was lost. It is not tried again by itself.",
    "RUN_SCHEDULER_LOST": "The Dask scheduler was lost while the run was executing, and its workers stopped.",
    "RUN_INTERRUPTED": "The devkit stopped while the run was executing.",
    "RUN_NOT_ACCOUNTED": "The devkit failed while it took in what the run left; see its log.",
    "RUN_ENVIRONMENT_FAILED": "The packages the module needs could not be installed; the message is the resolver's.",
    "RUN_NOT_STARTED": "The devkit could not start the module's process.",
    "EXTERNAL_FAILED": "The attached backend reported a failure.",
}

# `error.type` of the SDK's output (wire-contract E.5) -> our code.
_BY_TYPE = {
    "module_error": "MODULE_ERROR",
    "ModuleError": "MODULE_ERROR",
    "internal_error": "MODULE_EXCEPTION",
    "RuntimeError": "MODULE_EXCEPTION",
    "validation_error": "MODULE_VALIDATION_FAILED",
    "ValidationError": "MODULE_VALIDATION_FAILED",
    "timeout_error": "RUN_TIMED_OUT",
    "TimeoutError": "RUN_TIMED_OUT",
    "DependencyError": "MODULE_IMPORT_FAILED",
    "PermissionError": "MODULE_PERMISSION_DENIED",
    "OOMError": "RUN_OUT_OF_MEMORY",
}
_GONE = {Gone.WORKER: "RUN_WORKER_LOST", Gone.SCHEDULER: "RUN_SCHEDULER_LOST"}
_MAX_MESSAGE = 4000
_MEMORY_ERRORS = ("MemoryError", "Unable to allocate", "std::bad_alloc", "[Errno 12]", "Cannot allocate memory")


@attrs.frozen
class Verdict:
    """What a run ends as. `output` is the module's own output, when there is one to keep, of `output_bytes` bytes."""

    status: RunStatus
    error: RunError | None = None
    output: dict[str, Any] | None = None
    output_bytes: int = 0


def failure(code: str, message: str | None = None, **details: Any) -> RunError:
    """A run error with the catalogue's sentence, unless the module said something itself."""
    return RunError(code, clean(message or FAILURES[code])[:_MAX_MESSAGE], details)


def conclude(outcome: Outcome) -> Verdict:
    """The verdict on an execution. A stop from outside outranks whatever the module wrote."""
    if outcome.stopped is StopReason.CANCEL:
        return Verdict(RunStatus.CANCELLED, failure("RUN_CANCELLED"))
    if outcome.stopped is StopReason.SHUTDOWN:
        return Verdict(RunStatus.FAILED, failure("RUN_INTERRUPTED"))
    if outcome.stopped is StopReason.TIMEOUT:
        return Verdict(RunStatus.TIMED_OUT, failure("RUN_TIMED_OUT"))
    if outcome.stopped is StopReason.DISK:
        return Verdict(RunStatus.FAILED, failure("RUN_DISK_LIMIT", found=outcome.excess))
    if outcome.gone is not None:
        return Verdict(RunStatus.FAILED, failure(_GONE[outcome.gone]))
    if outcome.no_environment:
        return Verdict(RunStatus.FAILED, failure("RUN_ENVIRONMENT_FAILED", outcome.problem))
    if outcome.problem is not None:
        return Verdict(RunStatus.FAILED, failure("RUN_NOT_STARTED", reason=outcome.problem))
    if outcome.signal == signal.SIGXCPU:
        return Verdict(RunStatus.TIMED_OUT, failure("RUN_TIMED_OUT", **_exit(outcome)))
    if outcome.output_too_large:
        return Verdict(RunStatus.FAILED, failure("RUN_OUTPUT_TOO_LARGE"))
    if outcome.output is None:
        return Verdict(RunStatus.FAILED, _without_output(outcome))
    return _from_output(outcome, outcome.output)


def _from_output(outcome: Outcome, data: bytes) -> Verdict:
    try:
        output = jsonio.loads_lenient(data)
    except jsonio.JsonRefused as exc:
        return Verdict(RunStatus.FAILED, _invalid_output(str(exc), outcome))
    if not isinstance(output, dict):
        return Verdict(RunStatus.FAILED, _invalid_output("it is not an object", outcome))
    if str(output.get("status") or "success").lower() != "success":
        error = _module_error(output)
        status = RunStatus.TIMED_OUT if error.code == "RUN_TIMED_OUT" else RunStatus.FAILED
        return Verdict(status, error, output, len(data))
    if outcome.exit_code != 0:
        return Verdict(RunStatus.FAILED, failure("RUN_EXIT_CODE", **_exit(outcome)), output, len(data))
    return Verdict(RunStatus.COMPLETED, None, output, len(data))


def _invalid_output(reason: str, outcome: Outcome) -> RunError:
    return failure("RUN_OUTPUT_INVALID", f"The module's output cannot be used: {reason}.", **_exit(outcome))


def _module_error(output: dict[str, Any]) -> RunError:
    error = output.get("error")
    if not isinstance(error, dict):
        return failure("MODULE_ERROR", str(error) if error else None)
    kind = str(error.get("type") or "")
    details = {"type": kind[:100], **({"details": error["details"]} if error.get("details") else {})}
    if kind in {"internal_error", "RuntimeError"} and _is_memory_error(str(error.get("message") or "")):
        return failure("RUN_OUT_OF_MEMORY", **details)
    return failure(_BY_TYPE.get(kind, "MODULE_ERROR"), str(error.get("message") or "") or None, **details)


def _is_memory_error(message: str) -> bool:
    """Whether the SDK's text is that of an exception for want of memory; it does not name the exception's class.

    A plain `MemoryError` has no text at all, and nothing else that is common has none.
    """
    return not message or message.startswith(_MEMORY_ERRORS)


def _without_output(outcome: Outcome) -> RunError:
    if outcome.killed_for_memory:
        return failure("RUN_OUT_OF_MEMORY", **_exit(outcome))
    code = "RUN_KILLED" if outcome.signal is not None else "RUN_NO_OUTPUT"
    return failure(code, **_exit(outcome))


def _exit(outcome: Outcome) -> dict[str, Any]:
    if outcome.signal is not None:
        return {"signal": _signal_name(outcome.signal)}
    return {"exitCode": outcome.exit_code}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
