"""Executes runs on this machine, one fresh process each."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from devkit_api.execution import child
from devkit_api.execution.protocol import Execution, Metrics, Observer, Outcome, RunSpec, StopReason
from devkit_api.execution.workdir import Workdir

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
# The SDK's own timeout knows more (it names the step), so it gets the first word. It counts from `execute` on; the
# interpreter and the imports before it, slow on a busy machine, must not use up a short limit.
_TIMEOUT_HEAD_START = 5.0
# A daemon that keeps the pipe open must not keep the run open.
_DRAIN_SECONDS = 0.5


class LocalExecutor:
    """`Executor` with a new interpreter per run."""

    def __init__(
        self, work_root: Path, bundle_path: Callable[[str], Path], *, kill_grace: float, keep_workdirs: bool
    ) -> None:
        self._work_root = work_root
        self._bundle_path = bundle_path
        self._kill_grace = kill_grace
        self._keep_workdirs = keep_workdirs
        self._running: set[_LocalExecution] = set()

    async def open(self) -> None:
        """Make the work root and remove what an unclean stop left in it."""
        self._work_root.mkdir(parents=True, exist_ok=True)
        if not self._keep_workdirs:
            for leftover in self._work_root.iterdir():
                await Workdir(leftover).remove()

    async def close(self) -> None:
        """Stop what runs and wait for it."""
        for execution in self._running:
            execution.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*(execution.wait() for execution in self._running))

    async def launch(self, spec: RunSpec, observer: Observer) -> Execution:
        """Start the run in its own process group, session and work directory."""
        execution = _LocalExecution(
            spec, observer, Workdir(self._work_root / spec.run_id), self._bundle_path(spec.source_digest),
            kill_grace=self._kill_grace, keep_workdir=self._keep_workdirs,
        )  # fmt: skip
        self._running.add(execution)
        execution.begin(self._running.discard)
        return execution


class _LocalExecution:
    """One process and what it leaves behind."""

    def __init__(
        self,
        spec: RunSpec,
        observer: Observer,
        workdir: Workdir,
        source: Path,
        *,
        kill_grace: float,
        keep_workdir: bool,
    ) -> None:
        self._spec = spec
        self._observer = observer
        self._workdir = workdir
        self._source = source
        self._kill_grace = kill_grace
        self._keep_workdir = keep_workdir
        self._stopped: StopReason | None = None
        self._stop_event = asyncio.Event()
        self._task: asyncio.Task[Outcome] | None = None

    def begin(self, when_done: Callable[[_LocalExecution], None]) -> None:
        """Start executing in the background."""
        self._task = asyncio.create_task(self._execute(), name=f"execute-{self._spec.run_id}")
        self._task.add_done_callback(lambda _: when_done(self))

    async def wait(self) -> Outcome:
        """See `Execution.wait`."""
        assert self._task is not None  # noqa: S101  begin() precedes wait()
        return await asyncio.shield(self._task)

    def stop(self, reason: StopReason) -> None:
        """See `Execution.stop`."""
        if self._stopped is None:
            self._stopped = reason
            self._stop_event.set()

    async def _execute(self) -> Outcome:
        try:
            started = perf_counter()
            await self._workdir.prepare(self._source, self._spec)
            if self._stopped:
                return Outcome(stopped=self._stopped)
            return await self._supervise(started)
        except OSError as exc:
            log.exception("run could not be executed", extra={"run": self._spec.run_id})
            return Outcome(problem=f"its process could not be started ({os.strerror(exc.errno or 0)})")
        finally:
            if not self._keep_workdir:
                await self._workdir.remove()

    async def _supervise(self, started: float) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            sys.executable, child.__file__, str(os.getpid()), str(self._workdir.cwd),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=self._workdir.environment(self._spec), cwd=self._workdir.cwd, start_new_session=True,
        )  # fmt: skip
        launched = perf_counter()
        reader = asyncio.create_task(self._pump(process))
        await self._until_exit(process)
        _signal_group(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader, _DRAIN_SECONDS)
        output, too_large = await self._workdir.read_output(self._spec.limits.output_bytes)
        code = process.returncode
        return Outcome(
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            output=output,
            output_too_large=too_large,
            stopped=self._stopped,
            metrics=Metrics(launch_seconds=launched - started, execute_seconds=perf_counter() - launched),
        )

    async def _until_exit(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the process; past its time, or when told to stop, end its group."""
        exited = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stop_event.wait())
        limit = self._spec.limits.runtime_seconds + _TIMEOUT_HEAD_START
        await asyncio.wait({exited, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not exited.done():
            self._stopped = self._stopped or StopReason.TIMEOUT
            _signal_group(process.pid, signal.SIGTERM)
            await asyncio.wait({exited}, timeout=self._kill_grace)
            _signal_group(process.pid, signal.SIGKILL)
        await exited

    async def _pump(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  it is PIPE
        while data := await process.stdout.read(_CHUNK):
            self._observer.on_output(data)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The leader's pid is its group's id, because it started a session.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
