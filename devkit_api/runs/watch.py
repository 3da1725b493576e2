"""Waiting for something to happen to a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from devkit_api.runs.models import Run
from devkit_api.runs.repository import RunRepository


class RunWatch:
    """Wakes those who wait for a run; `release` wakes all of them, so that a shutdown need not wait.

    A signal says only that something changed: whoever waits looks for itself. Nothing is queued per listener, so a
    slow one costs no memory and misses nothing.
    """

    def __init__(self, repository: RunRepository) -> None:
        self._repository = repository
        self._signals: dict[str, set[asyncio.Event]] = {}
        self.released = False
        repository.listen(lambda run: self.notify(run.run_id))

    def notify(self, run_id: str) -> None:
        """Something changed: the state, the progress, or the log."""
        for signal in self._signals.get(run_id, ()):
            signal.set()

    def release(self) -> None:
        """Let everybody go."""
        self.released = True
        for run_id in self._signals:
            self.notify(run_id)

    @contextmanager
    def signal(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the run changes, from now on."""
        event = asyncio.Event()
        listeners = self._signals.setdefault(run_id, set())
        listeners.add(event)
        try:
            yield event
        finally:
            listeners.discard(event)
            if not listeners:
                self._signals.pop(run_id, None)

    async def until_finished(self, run_id: str, seconds: float) -> Run | None:
        """The run once it has ended, or as it is after `seconds` or at shutdown."""
        deadline = monotonic() + seconds
        with self.signal(run_id) as changed:
            while self._repository.live(run_id) is not None and not self.released:
                changed.clear()
                try:
                    await asyncio.wait_for(changed.wait(), deadline - monotonic())
                except TimeoutError:
                    break
        return await self._repository.get(run_id)
