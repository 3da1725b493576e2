"""Takes queued runs to their end: at most `workers` at a time, each accounted for whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import attrs

from devkit_api.errors import QueueFull
from devkit_api.execution.protocol import Execution, Executor, Outcome, RunSpec, StopReason
from devkit_api.ids import utc_now
from devkit_api.logs import correlation_id
from devkit_api.runs.accounting import Account, account
from devkit_api.runs.ends import RunEnds
from devkit_api.runs.failures import Verdict, conclude, failure
from devkit_api.runs.logs import RunLogs, RunLogWriter
from devkit_api.runs.models import IllegalMove, Run, RunStatus, move
from devkit_api.runs.queue import FairQueue
from devkit_api.runs.repository import RunRepository
from devkit_api.state import StateError

log = logging.getLogger(__name__)


@attrs.define
class Supervisor:
    """Conducts runs. `slots` says how many may execute at a time now; who changes that calls `fill`.

    `make_spec` gives the executor's order and the run's token; `on_log` follows new log lines.
    """

    repository: RunRepository
    executor: Executor
    logs: RunLogs
    ends: RunEnds
    slots: Callable[[], int]
    queue_limit: int
    make_spec: Callable[[Run], tuple[RunSpec, str]]
    on_log: Callable[[str], None]
    _queue: FairQueue = attrs.field(factory=FairQueue, init=False)
    _conducting: dict[str, asyncio.Task[None]] = attrs.field(factory=dict, init=False)
    _executions: dict[str, Execution] = attrs.field(factory=dict, init=False)
    _entering: int = attrs.field(default=0, init=False)
    _busy: int = attrs.field(default=0, init=False)
    _closing: bool = attrs.field(default=False, init=False)

    async def recover(self) -> None:
        """Settle what the previous server left: executing runs were interrupted, queued ones execute now.

        External runs are left as they are: their backends did not stop with the server.
        """
        for run in self.repository.unfinished():
            if run.is_external and run.status is not RunStatus.CANCEL_REQUESTED:
                continue
            if run.status is RunStatus.QUEUED:
                self._queue.push(run.module_id, run.run_id)
            else:
                await self._settle_interrupted(run)
        self.fill()

    async def close(self) -> None:
        """Stop what executes, wait until it is accounted for; what is queued stays queued for the next start."""
        self._closing = self.ends.is_closing = True
        for execution in list(self._executions.values()):
            execution.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*self._conducting.values(), return_exceptions=True)

    @property
    def queued(self) -> int:
        """Runs that wait for a worker."""
        return len(self._queue)

    @property
    def executing(self) -> int:
        """Runs that have a worker."""
        return self._busy

    @property
    def workers(self) -> int:
        """Runs that may execute at a time now."""
        return self.slots()

    @contextmanager
    def room(self) -> Iterator[None]:
        """Room for one more run, held while it is being stored. Raises `QueueFull` when no more may wait."""
        idle = max(0, self.workers - self._busy)
        if len(self._queue) + self._entering >= self.queue_limit + idle:
            raise QueueFull(count=self.queue_limit, headers={"Retry-After": "5"})
        self._entering += 1
        try:
            yield
        finally:
            self._entering -= 1

    async def admit(self, run: Run, *, is_awaited: bool) -> tuple[Run, bool]:
        """Store and queue a new run; one of this id that exists already is answered instead, with False.

        A run whose caller waits for its end, and that has a worker at once, is stored as running: nobody is told that
        it was queued. Raises `QueueFull` or `StateError`.
        """
        if is_awaited and self._has_free_worker and not self._queue and not self._entering:
            return await self._admit_running(run)
        with self.room():
            run, created = await self.repository.create(run)
            if created:
                self._queue.push(run.module_id, run.run_id)
                self.fill()
            return run, created

    async def _admit_running(self, run: Run) -> tuple[Run, bool]:
        self._busy += 1
        created = False
        try:
            run, created = await self.repository.create(move(run, RunStatus.RUNNING, started_at=utc_now()))
            if created:
                self._begin(run.run_id)
        finally:
            if not created:
                self._busy -= 1
                self.fill()
        return run, created

    async def cancel(self, run: Run) -> Run:
        """Cancel a queued or executing run; an ended one stays as it is. Raises `StateError`."""
        self._queue.remove(run.module_id, run.run_id)
        try:
            if run.status is RunStatus.QUEUED:
                error = failure("RUN_CANCELLED")
                run = await self.repository.transition(
                    run.run_id, RunStatus.CANCELLED, of=RunStatus.QUEUED, finished_at=utc_now(), error=error
                )
                await self.ends.on_finished()
                return run
            if run.status is RunStatus.RUNNING:
                run = await self.repository.transition(run.run_id, RunStatus.CANCEL_REQUESTED)
        except IllegalMove:
            return await self._cancel_again(run)
        except StateError:
            if run.status is RunStatus.QUEUED:
                self._queue.push(run.module_id, run.run_id)
                self.fill()
            raise
        self._stop(run.run_id, StopReason.CANCEL)
        return run

    async def until_idle(self) -> None:
        """Wait until nothing executes."""
        while self._conducting:
            await asyncio.wait(self._conducting.values())

    async def _cancel_again(self, run: Run) -> Run:
        """The run moved on while it was being cancelled: act on the state it has now."""
        current = await self.repository.get(run.run_id)
        if current is None or current.is_terminal or current.status is run.status:
            return current or run
        return await self.cancel(current)

    def _stop(self, run_id: str, reason: StopReason) -> None:
        execution = self._executions.get(run_id)
        if execution is not None:
            execution.stop(reason)

    def fill(self) -> None:
        """Begin queued runs for as long as there are workers for them."""
        # A worker is free again when the process is gone: storing one end needs the disk, the next run the processor.
        # Ends that cannot be stored still hold runs back, or a full disk would let them pile up.
        while self._has_free_worker:
            run_id = self._queue.pop()
            if run_id is None:
                return
            self._busy += 1
            self._begin(run_id)

    @property
    def _has_free_worker(self) -> bool:
        workers = self.workers
        return not self._closing and self._busy < workers and len(self._conducting) < 2 * workers + 2

    def _begin(self, run_id: str) -> None:
        task = asyncio.create_task(self._conduct(run_id), name=f"conduct-{run_id}")
        self._conducting[run_id] = task
        task.add_done_callback(partial(self._done, run_id))

    def _done(self, run_id: str, _task: asyncio.Task[None]) -> None:
        self._conducting.pop(run_id, None)
        self.fill()

    async def _conduct(self, run_id: str) -> None:
        try:
            executed = await self._work(run_id)
            if executed is not None:
                await self._account(*executed)
        except StateError:
            error = failure("RUN_NOT_STARTED", reason="that it starts could not be stored")
            await self.ends.store(run_id, Verdict(RunStatus.FAILED, error), Account())
        except Exception:
            log.exception("a run could not be conducted", extra={"run": run_id})
            await self.logs.close(run_id)
            await self.ends.store(run_id, Verdict(RunStatus.FAILED, failure("RUN_NOT_ACCOUNTED")), Account())

    async def _work(self, run_id: str) -> tuple[Run, RunLogWriter, Outcome] | None:
        """The part of a run that needs a worker; None when it was cancelled, or the devkit stops, before it began."""
        try:
            run = self.repository.live(run_id)
            if run is None or run.status is RunStatus.QUEUED:
                if self._closing:
                    return None
                run = await self.repository.transition(run_id, RunStatus.RUNNING, started_at=utc_now())
            correlation_id.set(run.correlation_id)
            spec, token = self.make_spec(run)
            writer = self.logs.open(run_id, token, partial(self.on_log, run_id))
            return run, writer, await self._execute(spec, writer)
        except IllegalMove:
            return None
        finally:
            self._busy -= 1
            self.fill()

    async def _account(self, run: Run, writer: RunLogWriter, outcome: Outcome) -> None:
        run_id, began = run.run_id, perf_counter()
        writer.end_output()
        # A large output would hold up everybody else while it is parsed.
        verdict = await asyncio.to_thread(conclude, outcome) if outcome.is_large else conclude(outcome)
        if verdict.error is not None:
            writer.note(f"Run {verdict.status.value}: {verdict.error.code}: {verdict.error.message}", "ERROR")
        await self.logs.close(run_id)
        figures = account(
            run, outcome, log_bytes=writer.bytes_seen, log_bytes_dropped=writer.bytes_dropped, began=began
        )
        await self.ends.store(run_id, verdict, figures)

    async def _execute(self, spec: RunSpec, writer: RunLogWriter) -> Outcome:
        execution = await self.executor.launch(spec, writer)
        self._executions[spec.run_id] = execution
        try:
            # Cancelled or closed between the transition and the launch: nobody else will stop it.
            current = self.repository.live(spec.run_id)
            if current is not None and current.status is RunStatus.CANCEL_REQUESTED:
                execution.stop(StopReason.CANCEL)
            elif self._closing:
                execution.stop(StopReason.SHUTDOWN)
            return await execution.wait()
        finally:
            del self._executions[spec.run_id]

    async def _settle_interrupted(self, run: Run) -> None:
        cancelled = run.status is RunStatus.CANCEL_REQUESTED
        status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
        error = failure("RUN_CANCELLED" if cancelled else "RUN_INTERRUPTED")
        try:
            await self.repository.transition(run.run_id, status, finished_at=utc_now(), error=error)
        except StateError:
            # A full disk must not keep the devkit from starting, or nobody could make room with it.
            finishing = self.ends.store(run.run_id, Verdict(status, error), Account())
            task = self._conducting[run.run_id] = asyncio.create_task(finishing, name=f"settle-{run.run_id}")
            task.add_done_callback(partial(self._done, run.run_id))
            return
        log.warning("run settled after an unclean stop", extra={"run": run.run_id, "status": status.value})
