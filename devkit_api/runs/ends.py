"""How the end of a run is stored: until it is, and then others hear of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from devkit_api.ids import utc_now
from devkit_api.runs.accounting import Account
from devkit_api.runs.failures import Verdict, failure
from devkit_api.runs.files import RunFiles
from devkit_api.runs.models import IllegalMove, RunStatus
from devkit_api.runs.repository import RunRepository
from devkit_api.state import StateError
from devkit_api.state.retry import until_stored

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1

_SMALL_OUTPUT = 4096  # bytes; such an output is part of the run's document


@attrs.define
class RunEnds:
    """Stores outputs and final states; `on_finished` follows each. Once `is_closing`, it tries a few times only."""

    repository: RunRepository
    files: RunFiles
    on_finished: Callable[[], Awaitable[None]]
    is_closing: bool = False

    async def store(self, run_id: str, verdict: Verdict, figures: Account) -> None:
        """Store the end of a run. A disk that is full now may not be in a moment, and a run must never be left open."""
        try:
            await self._store_once(run_id, verdict, figures)
        except (StateError, OSError):
            if not await self._store_later(run_id, verdict, figures):
                return
        await self.on_finished()

    async def _store_later(self, run_id: str, verdict: Verdict, figures: Account) -> bool:
        retrying = until_stored(lambda state: self.is_closing and state.attempt_number >= 3)
        try:
            await asyncio.sleep(_FIRST_PAUSE)
            await retrying(self._store_once, run_id, verdict, figures)
        except (StateError, OSError):
            # The next start finds the run unfinished and settles it as interrupted.
            log.critical("the end of a run could not be stored", extra={"run": run_id})
            return False
        return True

    async def _store_once(self, run_id: str, verdict: Verdict, figures: Account) -> None:
        run = self.repository.live(run_id)
        if run is None:
            return
        is_small = verdict.output_bytes <= _SMALL_OUTPUT
        if verdict.output is not None and not is_small:
            await self.files.write_output(run_id, verdict.output)
            run = self.repository.live(run_id) or run
        summary = (verdict.output or {}).get("summary")
        changes: dict[str, Any] = {
            "finished_at": utc_now(),
            "error": verdict.error,
            "summary": summary if isinstance(summary, dict) else None,
            "metrics": figures.close(),
            "has_output": verdict.output is not None,
            "output": verdict.output if is_small else None,
        }
        status = verdict.status
        if run.status is RunStatus.CANCEL_REQUESTED:
            status, changes["error"] = RunStatus.CANCELLED, failure("RUN_CANCELLED")
        try:
            await self.repository.transition(run_id, status, **changes)
        except IllegalMove:
            # A cancel request was stored in between: the same end again, under the new state.
            await self._store_once(run_id, verdict, figures)
