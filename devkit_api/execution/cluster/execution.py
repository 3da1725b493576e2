"""One run on the cluster, from the devkit's side: its ticket, its worker, its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import Any

import attrs

from devkit_api.execution.cluster.conversation import Conversation, Unfit
from devkit_api.execution.cluster.frames import Broken, Channel, say
from devkit_api.execution.cluster.scheduler import Call, Scheduler, SchedulerGone
from devkit_api.execution.cluster.summons import Summons
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.execution.protocol import Gone, Outcome, StopReason

log = logging.getLogger(__name__)

# Beyond the grace of the run: for SIGKILL, for what is still on the way, for a worker that is busy.
_STOP_SECONDS = 20.0
# How often a summons that came to nothing, for no reason Dask gives, is given again.
_ATTEMPTS = 10
_PAUSE = 0.5
# Reasons that only the devkit has; limits are the worker's to watch.
_OURS = (StopReason.SHUTDOWN, StopReason.CANCEL)


class ClusterExecution:
    """`Execution` at whichever worker comes with its ticket. `summons` makes one of a ticket."""

    def __init__(
        self,
        conversation: Conversation,
        scheduler: Scheduler,
        tickets: Tickets,
        summons: Callable[[str], Summons],
    ) -> None:
        self._conversation = conversation
        self._run_id = conversation.spec.run_id
        self._scheduler = scheduler
        self._tickets = tickets
        self._summons = summons
        self._stopped: StopReason | None = None
        self._stop_event = asyncio.Event()
        self._claimed = asyncio.Event()
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[Outcome] | None = None
        self._begun = perf_counter()

    def begin(self, when_done: Callable[[ClusterExecution], None]) -> None:
        """Start executing in the background."""
        self._task = asyncio.create_task(self._execute(), name=f"execute-{self._run_id}")
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

    def claim(self) -> None:
        """See `Holder.claim`."""
        self._claimed.set()

    async def converse(self, channel: Channel) -> None:
        """See `Holder.converse`."""
        stopping = asyncio.create_task(self._pass_on_stop(channel), name=f"stop-{self._run_id}")
        try:
            outcome = await self._conversation.hold(channel)
            begun = self._conversation.begun or self._begun
            self._end(_launched(outcome, begun - self._begun))
        except Unfit as exc:
            self._end(Outcome(problem=str(exc)))
        except Broken as exc:
            log.warning("the worker of a run was lost", extra={"run": self._run_id, "reason": str(exc)})
        finally:
            stopping.cancel()
            self.leave()
            await channel.close()

    def leave(self) -> None:
        """See `Holder.leave`."""
        self._end(Outcome(gone=Gone.WORKER))

    def _end(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)

    async def _pass_on_stop(self, channel: Channel) -> None:
        """Tell the worker; one that does not end the run in time loses it, and ends it for that."""
        await self._stop_event.wait()
        try:
            await say(channel, "stop", reason=self._stopped)
        except Broken:
            return  # the conversation finds out as well
        await asyncio.sleep(self._conversation.engine.kill_grace + _STOP_SECONDS)
        log.error("a worker does not end a run it was told to stop", extra={"run": self._run_id})
        self._end(Outcome(stopped=self._stopped))
        await channel.close()

    async def _execute(self) -> Outcome:
        for attempt in range(1, _ATTEMPTS + 1):
            problem = await self._try(attempt)
            if self._claimed.is_set():
                return await self._outcome()
            if self._stopped is not None:
                return Outcome(stopped=self._stopped)
            if problem is not None:
                return Outcome(problem=problem)
            await self._unless_stopped(asyncio.sleep(_PAUSE))
        return Outcome(problem="the cluster gave it up several times, and no worker began it")

    async def _try(self, attempt: int) -> str | None:
        """Until a worker has the run, it is stopped, or Dask has given up; then perhaps why."""
        await self._unless_stopped(self._scheduler.until_connected())
        if self._stopped is not None:
            return None
        ticket = self._tickets.issue(self)
        call = None
        try:
            call = self._scheduler.summon(self._summons(ticket), attempt)
            problem: str | None = await self._unless_stopped(self._until_claimed_or_ended(call))
            if self._claimed.is_set():
                await asyncio.wait({self._ended})  # until then, the summons keeps the worker's place for the run
            return problem
        except SchedulerGone:
            return None
        finally:
            self._tickets.withdraw(ticket)
            if call is not None:
                call.forget()

    async def _until_claimed_or_ended(self, call: Call) -> str | None:
        ended, claimed = asyncio.create_task(call.ended()), asyncio.create_task(self._claimed.wait())
        try:
            await asyncio.wait({ended, claimed}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() and not self._claimed.is_set() else None
        finally:
            ended.cancel()
            claimed.cancel()

    async def _unless_stopped(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` gives; None when the run is stopped before a worker has it."""
        working, stop = asyncio.create_task(work), asyncio.create_task(self._stop_event.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stop.cancel()

    async def _outcome(self) -> Outcome:
        """The end of a run that a worker had."""
        outcome = await self._ended
        if outcome.stopped in _OURS and outcome.stopped is not self._stopped:
            outcome = Outcome(gone=Gone.WORKER)  # it was not us who stopped: the worker did
        if outcome.gone is None:
            return outcome
        if self._stopped is not None:
            return Outcome(stopped=self._stopped)
        try:
            await self._scheduler.check()
        except SchedulerGone:
            return Outcome(gone=Gone.SCHEDULER)
        return outcome


def _launched(outcome: Outcome, placed: float) -> Outcome:
    """The time until a worker had the run and its source is part of the launch."""
    launch = outcome.metrics.launch_seconds
    metrics = attrs.evolve(outcome.metrics, launch_seconds=None if launch is None else launch + placed)
    return attrs.evolve(outcome, metrics=metrics)


def summons_for(run_id: str, url: str, authority: str | None) -> Callable[[str], Summons]:
    """Summons of a run, but for their tickets."""
    return partial(Summons, run_id, url, authority=authority)
