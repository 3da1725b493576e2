"""One run on this machine: its directory, its process, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import attrs

from devkit_api.execution import child, disk, orphans
from devkit_api.execution.environment import run_environment
from devkit_api.execution.environments.store import EnvironmentFailed, Environments
from devkit_api.execution.isolation import IsolationMissing
from devkit_api.execution.output import OutputPipe
from devkit_api.execution.protocol import Metrics, Observer, Outcome, RunSpec, StopReason
from devkit_api.execution.sources import SourceChanged
from devkit_api.execution.zygote.handle import Exit, Lost, Zygote
from devkit_api.execution.zygote.lane import OWN_PYTHON, Kind, Lane
from devkit_api.execution.zygote.pool import ZygotePool

log = logging.getLogger(__name__)
T = TypeVar("T")

# The SDK's own timeout knows more (it names the step), so it gets the first word.
_TIMEOUT_HEAD_START = 5.0
_ATTEMPTS = 3
# A process that keeps the pipe open must not keep the run open.
_DRAIN_SECONDS = 0.5
# How often the disk is looked at: what a short run can write in that time is little, and a look takes a share of it.
_DISK_SECONDS = 1.0
_DISK_SHARE = 30
# A zygote that does not report the end of a killed run is stuck.
_REPORT_SECONDS = 5.0
# Handed over as text: a module's user may not be able to read the devkit's own folder.
_CHILD = Path(child.__file__).read_text()


class LocalExecution:
    """`Execution` in a zygote of the pool."""

    def __init__(
        self,
        spec: RunSpec,
        observer: Observer,
        pool: ZygotePool,
        environments: Environments,
        *,
        kill_grace: float,
        keep_as: Path | None,
    ) -> None:
        self._spec = spec
        self._observer = observer
        self._pool = pool
        self._environments = environments
        self._kind = Kind.of(spec)
        self._kill_grace = kill_grace
        self._keep_as = keep_as
        self._stopped: StopReason | None = None
        self._ended_by_itself = False
        self._excess: str | None = None
        self._stop_event = asyncio.Event()
        self._task: asyncio.Task[Outcome] | None = None
        self._begun = self._ended_at = perf_counter()

    def begin(self, when_done: Callable[[LocalExecution], None]) -> None:
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
        outcome = Outcome()
        spent: float | None = None
        try:
            spent = await self._choose_python()
            outcome = await self._begin_somewhere()
        except EnvironmentFailed as exc:
            outcome = Outcome(problem=str(exc), no_environment=True)
        except IsolationMissing as exc:
            outcome = Outcome(problem=str(exc))
        except Lost:
            log.error("run could not be executed: no process for it", extra={"run": self._spec.run_id})
            outcome = Outcome(problem="its process could not be started")
        except SourceChanged:
            log.error("the stored source of a module was changed", extra={"digest": self._spec.source_digest})
            outcome = Outcome(problem="its stored source was changed since it was registered; register it again")
        except OSError as exc:
            log.exception("run could not be executed", extra={"run": self._spec.run_id})
            outcome = Outcome(problem=f"its process could not be started ({os.strerror(exc.errno or 0)})")
        metrics = attrs.evolve(outcome.metrics, environment_seconds=spent)
        # A run that had ended when the devkit was told to stop was not interrupted.
        missed = self._ended_by_itself and self._stopped is StopReason.SHUTDOWN
        return attrs.evolve(outcome, stopped=None if missed else self._stopped, excess=self._excess, metrics=metrics)

    async def _choose_python(self) -> float | None:
        """Seconds it took to have the module's environment built; None when there was nothing to do."""
        if self._environments.has_own_python(self._spec.source_digest):
            return None
        building = self._environments.python(
            self._spec.source_digest, self._pool.bundle(self._spec.source_digest), self._observer.on_build
        )
        python = await self._unless_stopped(building)
        if python is None or python == OWN_PYTHON:
            return None
        self._kind = Kind.of(self._spec, python)
        spent, self._begun = perf_counter() - self._begun, perf_counter()
        return spent

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives, or None when the run is stopped first; then the work is given up."""
        working = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop_event.wait())
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait({working})
        # What was done at this very moment is done: a zygote must not be forgotten.
        return None if working.cancelled() or working.exception() is not None else working.result()

    async def _begin_somewhere(self) -> Outcome:
        """A zygote that waits may be gone when its order comes; the run, which it did not begin, gets another one."""
        for left in reversed(range(_ATTEMPTS)):
            lane = None
            try:
                lane = await self._acquire()
                return Outcome() if lane is None else await self._use(lane)
            except Lost:
                if not left:
                    raise
                log.warning("a zygote was gone before its run began", extra={"run": self._spec.run_id})
            finally:
                if lane is not None:
                    await self._pool.release(lane)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _use(self, lane: Lane) -> Outcome:
        await lane.workdir.prepare(await self._pool.source(self._spec.source_digest), self._spec)
        try:
            outcome = await self._supervise(lane)
        finally:
            output, too_large = await lane.workdir.finish(self._spec.limits.output_bytes, self._keep_as)
        metrics = attrs.evolve(outcome.metrics, collect_seconds=perf_counter() - self._ended_at)
        return attrs.evolve(outcome, output=output, output_too_large=too_large, metrics=metrics)

    async def _acquire(self) -> Lane | None:
        """A zygote, or None when the run is stopped before there is one."""
        lane = None if self._stopped else self._pool.take(self._kind)
        if lane is not None or self._stopped:
            return lane
        return await self._unless_stopped(self._pool.hatch(self._kind))

    async def _supervise(self, lane: Lane) -> Outcome:
        zygote = lane.zygote
        pipe = OutputPipe(self._observer.on_output, lane.user)
        try:
            started = await zygote.run(self._order(lane.workdir.root), pipe.write_end)
            pipe.close_write_end()
            launched = perf_counter()
            try:
                if not self._pool.isolation.has_namespaces:
                    orphans.record(lane.folder, started.pid, started.start_time, lane.user)
                log.debug("run started", extra={"run": self._spec.run_id, "pid": started.pid})
                ended = await self._until_exit(zygote, lane.folder)
            except BaseException:
                zygote.kill()  # its run goes on, and nobody looks after it
                raise
            executed = perf_counter()
            await pipe.drain(_DRAIN_SECONDS)
            self._ended_at = executed
        finally:
            pipe.close()
        return Outcome(
            exit_code=ended.code,
            signal=ended.signal,
            problem=None if ended.problem is None else f"its process could not be made ready ({ended.problem})",
            killed_for_memory=self._is_killed_for_memory(ended),
            metrics=Metrics(
                launch_seconds=launched - self._begun,
                import_seconds=None if lane.served else lane.import_seconds,
                execute_seconds=executed - launched,
                warm=lane.served > 0 and lane.import_seconds is not None,
                cpu_seconds=ended.cpu_seconds,
                peak_memory_bytes=ended.peak_memory_bytes,
            ),
        )

    def _order(self, root: Path) -> dict[str, Any]:
        order: dict[str, Any] = {
            "cwd": f"{root}/cwd",
            "environment": run_environment(root, self._spec),
            "limits": self._pool.isolation.limits(self._spec.limits),
        }
        if self._kind.needs_fresh_interpreter:
            order["exec"] = [str(self._kind.python), "-c", _CHILD]
        return order

    async def _while_it_may_run(self, ends: set[asyncio.Task[Any]], folder: Path) -> None:
        """Until one of `ends` has come, the run's time is over, or it has more on the disk than it may."""
        limits, pause = self._spec.limits, _DISK_SECONDS
        deadline = perf_counter() + limits.runtime_seconds + _TIMEOUT_HEAD_START
        while (left := deadline - perf_counter()) > 0:
            done, _ = await asyncio.wait(ends, timeout=min(left, pause), return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            looked = perf_counter()
            self._excess = await disk.beyond(folder, limits.work_bytes, limits.work_entries)
            if self._excess is not None:
                self.stop(StopReason.DISK)
                return
            pause = max(_DISK_SECONDS, _DISK_SHARE * (perf_counter() - looked))

    async def _until_exit(self, zygote: Zygote, folder: Path) -> Exit:
        """Wait for the run; past its time, or when told to stop, end its group."""
        exited = asyncio.create_task(zygote.wait())
        stop = asyncio.create_task(self._stop_event.wait())
        await self._while_it_may_run({exited, stop}, folder)
        stop.cancel()
        self._ended_by_itself = exited.done()
        if not exited.done():
            self._stopped = self._stopped or StopReason.TIMEOUT
            if self._stopped is not StopReason.DISK:  # in its grace it could write as much again
                zygote.signal(signal.SIGTERM)
                await asyncio.wait({exited}, timeout=self._kill_grace)
        if not exited.done():
            zygote.signal(signal.SIGKILL)
            await asyncio.wait({exited}, timeout=_REPORT_SECONDS)
        if not exited.done():
            log.error("zygote does not report; it is ended", extra={"run": self._spec.run_id})
            zygote.kill()
        try:
            return await exited
        except Lost:
            # The zygote was ended from outside, and the run with it.
            return Exit(code=None, signal=signal.SIGKILL, cpu_seconds=0.0, peak_memory_bytes=0)

    def _is_killed_for_memory(self, ended: Exit) -> bool:
        """SIGKILL, or 137 from a child that got it, that we did not send, near the memory the run may have."""
        killed = ended.signal == signal.SIGKILL or ended.code == 128 + signal.SIGKILL
        limit = self._spec.limits.memory_mb
        near = limit is None or ended.peak_memory_bytes > 0.8 * limit * 1024**2
        return killed and near and self._stopped is None and ended.peak_memory_bytes > 0
