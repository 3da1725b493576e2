"""The executor protocol: what it takes to run a module, wherever that happens.

A `RunSpec` names nothing of this machine, so a warm pool here and a cluster elsewhere take the same one.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Any, Protocol

import attrs


class StopReason(enum.StrEnum):
    """Why an execution was ended from outside."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    DISK = "disk"


class Gone(enum.StrEnum):
    """What was lost while it executed for us elsewhere."""

    WORKER = "worker"
    SCHEDULER = "scheduler"


@attrs.frozen
class Limits:
    """Bounds on one run, enforced from outside the module's code."""

    runtime_seconds: float
    output_bytes: int
    memory_mb: int | None = None
    open_files: int = 1024
    processes: int = 512
    file_bytes: int = 4 * 1024**3
    work_bytes: int = 16 * 1024**3
    work_entries: int = 200_000


@attrs.frozen
class RunSpec:
    """Everything one execution needs. `payload` and `context` are what the SDK's runner reads (wire-contract E)."""

    run_id: str
    module_id: str
    module_version: str
    source_digest: str
    entrypoint: str
    mode: str
    payload: dict[str, Any]
    context: dict[str, Any] = attrs.field(repr=False)
    environment: dict[str, str]
    limits: Limits
    network: bool = True
    traceparent: str | None = None


@attrs.frozen
class Metrics:
    """What an execution cost. Seconds and bytes; None where it could not be measured.

    `launch_seconds` is everything from the order to the module's process at work, but for an environment that had to
    be built. `import_seconds` is the part of it in which the module was imported ahead of its run; None when an
    earlier run had done so (`warm`), or when the run imports it itself.
    """

    environment_seconds: float | None = None
    launch_seconds: float | None = None
    import_seconds: float | None = None
    collect_seconds: float | None = None
    warm: bool | None = None
    execute_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


LARGE = 256 * 1024


@attrs.frozen
class Outcome:
    """How an execution ended. `output` is the runner's output file as it was written, or None when there is none.

    `killed_for_memory`: it was killed without being told, and had used about what it may.
    `excess` is what it had too much of on the disk, when it was stopped for that.
    `problem` is set when the platform failed before or around the module; it is text for the module's author.
    `no_environment`: the problem is what the module asks for, and the text is the resolver's.
    `gone` is what was lost with the run; how the run ended, nobody knows.
    """

    exit_code: int | None = None
    signal: int | None = None
    output: bytes | None = attrs.field(default=None, repr=False)
    output_too_large: bool = False
    stopped: StopReason | None = None
    problem: str | None = None
    no_environment: bool = False
    metrics: Metrics = Metrics()
    killed_for_memory: bool = False
    excess: str | None = None
    gone: Gone | None = None

    @property
    def is_large(self) -> bool:
        """Whether the output is too large to be parsed between two requests."""
        return self.output is not None and len(self.output) > LARGE


class Observer(Protocol):
    """Who listens while a run executes."""

    def on_output(self, data: bytes) -> asyncio.Future[None] | None:
        """Bytes the process wrote to stdout or stderr, in arrival order. What it returns is waited for before more is
        read: an observer that cannot keep up holds up the process, not the memory.
        """

    def on_build(self, line: bytes) -> None:
        """A line about the module's environment, which is built before there is a process."""


class Execution(Protocol):
    """A run in flight."""

    async def wait(self) -> Outcome:
        """The outcome, once every process of the run is gone. Never raises for what the module did."""

    def stop(self, reason: StopReason) -> None:
        """End it: SIGTERM, grace, SIGKILL, the whole process group. Idempotent; the first reason stays."""


class Executor(Protocol):
    """Runs specs. `open` and `close` bracket its life; `close` ends what still runs."""

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """End every execution and free everything."""

    async def launch(self, spec: RunSpec, observer: Observer) -> Execution:
        """Start one run. Platform problems surface as `Outcome.problem`, not as exceptions."""
