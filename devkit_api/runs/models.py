"""A run and its states."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from devkit_api.state import Document


class RunStatus(enum.StrEnum):
    """Where a run stands. The words are the SDK's (wire-contract C.3)."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel_requested"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT})

# The one table of legal moves. A terminal state never changes.
MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: TERMINAL | {RunStatus.CANCEL_REQUESTED},
    # Once asked to cancel, a run is cancelled, whatever its process still managed to do.
    RunStatus.CANCEL_REQUESTED: frozenset({RunStatus.CANCELLED}),
    **{status: frozenset() for status in TERMINAL},
}


class IllegalMove(Exception):
    """A move the table does not have."""


@attrs.frozen
class Progress:
    """What a module last said of its progress: percent 0-100 and a short text."""

    percent: int
    message: str = ""
    estimated_completion: str | None = None
    at: str = ""


@attrs.frozen
class RunError:
    """Why a run did not complete. `code` is a row of `runs/failures.py`; `details` are safe to show."""

    code: str
    message: str
    details: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Run:
    """One run. Changes go through `move` and `RunRepository`, never by hand. Times are ISO 8601 UTC."""

    run_id: str
    module_id: str
    module_version: str
    module_name: str
    mode: str
    status: RunStatus
    parameters: dict[str, Any]
    created_at: str
    user_id: str
    organization_id: str
    correlation_id: str
    max_runtime_seconds: int
    token_serial: str = attrs.field(repr=False)
    source_digest: str | None = None
    entrypoint: str = ""
    environment_variables: dict[str, str] = attrs.Factory(dict)
    memory_mb: int | None = None
    network: bool = True
    compute_profile: str | None = None
    data_context: dict[str, Any] | None = None
    navigation_data: dict[str, Any] | None = None
    started_at: str | None = None
    finished_at: str | None = None
    heartbeat_at: str | None = None
    progress: Progress | None = None
    error: RunError | None = None
    summary: dict[str, Any] | None = None
    metrics: dict[str, Any] = attrs.Factory(dict)
    has_output: bool = False
    # A small output is part of the document: one write, and one read, less. Others are files (`files.py`).
    output: dict[str, Any] | None = attrs.field(default=None, repr=False)
    traceparent: str | None = None  # the request that started it, when traces are on

    @property
    def is_external(self) -> bool:
        """Whether a backend elsewhere executes it."""
        return self.source_digest is None

    @property
    def waiting_for(self) -> str | None:
        """What an external run waits for and how that comes, or None: nothing happens to it by itself."""
        if not self.is_external or self.status is not RunStatus.QUEUED:
            return None
        return (
            "waits for a backend: the devkit has no source of this module. A process with the run's token attaches "
            f"with POST /v1/module-runs/{self.run_id}/heartbeat and ends the run with …/complete "
            "(docs/how-to.md, 'Debug a module in your IDE')"
        )

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in TERMINAL

    def to_document(self) -> Document:
        """The stored form."""
        return attrs.asdict(self, value_serializer=lambda _i, _a, v: v.value if isinstance(v, enum.Enum) else v)

    @classmethod
    def from_document(cls, document: Document) -> Run:
        """Read the stored form; raises `KeyError`, `TypeError` or `ValueError` when it is not one."""
        _check_types(document)
        known = {field.name for field in attrs.fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        values["status"] = RunStatus(document["status"])
        values["progress"] = Progress(**document["progress"]) if document.get("progress") else None
        values["error"] = RunError(**document["error"]) if document.get("error") else None
        return cls(**values)

    def view(self) -> dict[str, Any]:
        """The run as the API shows it (wire-contract C.2): never its token."""
        return {
            "id": self.run_id,
            "runId": self.run_id,
            "moduleId": self.module_id,
            "module": {"id": self.module_id, "name": self.module_name, "version": self.module_version},
            "version": self.module_version,
            "sourceDigest": self.source_digest,
            "status": self.status.value,
            "executionMode": self.mode,
            "runtimeProfile": self.compute_profile,
            "external": self.is_external,
            "waitingFor": self.waiting_for,
            "parameters": self.parameters,
            "progress": attrs.asdict(self.progress) if self.progress else None,
            "error": attrs.asdict(self.error) if self.error else None,
            "summary": self.summary,
            "metrics": self.metrics,
            "correlationId": self.correlation_id,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "heartbeatAt": self.heartbeat_at,
        }


def _check_types(document: Document) -> None:
    """What indexes and answers rely on; a document of another shape was not written by the devkit."""
    texts = ("run_id", "module_id", "module_version", "created_at", "user_id", "organization_id", "token_serial")
    maybe_texts = ("source_digest", "started_at", "finished_at", "heartbeat_at", "traceparent")
    if not all(isinstance(document[name], str) for name in texts):
        raise TypeError("a text is missing")
    if not all(isinstance(document.get(name), str | None) for name in maybe_texts):
        raise TypeError("a time or digest is not a text")
    if not isinstance(document["parameters"], dict) or not isinstance(document.get("metrics", {}), dict):
        raise TypeError("parameters and metrics are objects")


def move(run: Run, to: RunStatus, **changes: Any) -> Run:
    """`run` in its next state. Raises `IllegalMove` for a move the table does not have."""
    if to not in MOVES[run.status]:
        raise IllegalMove(f"{run.run_id}: {run.status} -> {to}")
    return attrs.evolve(run, status=to, **changes)
