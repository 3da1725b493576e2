"""Waiting for a run to end."""

from __future__ import annotations

import asyncio

from devkit_api.runs.models import Run
from devkit_api.runs.repository import RunRepository


class RunWatch:
    """Wakes those who wait for a run; `release` wakes all of them, so that a shutdown need not wait."""

    def __init__(self, repository: RunRepository) -> None:
        self._repository = repository
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._released = False
        repository.listen(self._on_change)

    async def until_finished(self, run_id: str, seconds: float) -> Run | None:
        """The run once it has ended, or as it is after `seconds` or at shutdown."""
        if self._repository.live(run_id) is not None and not self._released:
            waiter = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(run_id, set())
            waiters.add(waiter)
            try:
                await asyncio.wait({waiter}, timeout=seconds)
            finally:
                waiters.discard(waiter)
                if not waiters:
                    self._waiters.pop(run_id, None)
        return await self._repository.get(run_id)

    def release(self) -> None:
        """Let everybody go."""
        self._released = True
        for run_id in list(self._waiters):
            self._wake(run_id)

    def _on_change(self, run: Run) -> None:
        if run.is_terminal:
            self._wake(run.run_id)

    def _wake(self, run_id: str) -> None:
        for waiter in self._waiters.pop(run_id, ()):
            if not waiter.done():
                waiter.set_result(None)
