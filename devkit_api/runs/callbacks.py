"""What the process that works on a run says: alive, how far, its output, the end.

For a run the devkit executes that is its module; an external run is worked on, and ended, by a backend elsewhere.
"""

from __future__ import annotations

from typing import Any

import attrs

from devkit_api.errors import RunConflict
from devkit_api.ids import utc_now
from devkit_api.locks import KeyedLocks
from devkit_api.runs.failures import failure
from devkit_api.runs.files import RunFiles
from devkit_api.runs.models import IllegalMove, Progress, Run, RunError, RunStatus
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.retention import Retention
from devkit_api.state import StateError


@attrs.define
class RunCallbacks:
    """The calls a run's own token is for."""

    repository: RunRepository
    files: RunFiles
    retention: Retention
    _completing: KeyedLocks = attrs.field(factory=KeyedLocks, init=False)

    async def attach(self, run_id: str) -> Run:
        """The unfinished run a callback is for; an external one starts running with its first callback.

        Raises `RunNotFound`, and `RunConflict` when it is being cancelled or has ended.
        """
        run = await self.repository.find(run_id)
        if run.is_terminal or run.status is RunStatus.CANCEL_REQUESTED:
            raise RunConflict(run_id=run_id, status=run.status.value, reason="callbacks are no longer taken")
        if run.is_external and run.status is RunStatus.QUEUED:
            try:
                return await self.repository.transition(run_id, RunStatus.RUNNING, started_at=utc_now())
            except IllegalMove:
                return await self.repository.find(run_id)
        return run

    async def heartbeat(self, run_id: str, request: dict[str, Any]) -> Run:
        """Note a sign of life and progress; the first one of an external run means it is running."""
        run = await self.attach(run_id)
        changes: dict[str, Any] = {"heartbeat_at": utc_now()}
        progress = _progress(request)
        if progress is not None:
            changes["progress"] = progress
        return self.repository.touch(run_id, **changes) or run

    async def complete(self, run_id: str, request: dict[str, Any]) -> Run:
        """End an external run as its backend says. A repeated call with the same end is answered like the first."""
        # One at a time: the first one's output is the run's, whoever else calls meanwhile.
        async with self._completing.of(run_id):
            return await self._complete(run_id, request)

    async def _complete(self, run_id: str, request: dict[str, Any]) -> Run:
        status = RunStatus(request["status"])
        run = await self.repository.find(run_id)
        _check_external(run)
        if run.is_terminal:
            return self._completed_again(run, status)
        run = await self.attach(run_id)
        output = request.get("result")
        if output is not None:
            await self._store_output(run_id, output)
        error = _external_error(request.get("error")) if status is RunStatus.FAILED else None
        try:
            run = await self.repository.transition(
                run_id, status, finished_at=utc_now(), summary=request.get("summary") or run.summary, error=error,
                has_output=output is not None or await self.files.has_output(run_id),
            )  # fmt: skip
        except IllegalMove:
            return self._completed_again(await self.repository.find(run_id), status)
        await self.retention.retain()
        return run

    async def take_part(self, run_id: str, part: str, value: dict[str, Any]) -> None:
        """Keep the output or the summary that a backend elsewhere put; `complete` makes it the run's."""
        async with self._completing.of(run_id):
            _check_external(await self.repository.find(run_id))
            await self.attach(run_id)
            if part == "output":
                await self._store_output(run_id, value)
            else:
                await self.repository.change(run_id, summary=value)

    async def _store_output(self, run_id: str, output: dict[str, Any]) -> None:
        try:
            await self.files.write_output(run_id, output)
        except OSError as exc:
            raise StateError("the output could not be stored") from exc

    def _completed_again(self, run: Run, status: RunStatus) -> Run:
        if run.status is not status:
            raise RunConflict(run_id=run.run_id, status=run.status.value, reason="it has ended already")
        return run


def _check_external(run: Run) -> None:
    if not run.is_external:
        raise RunConflict(
            run_id=run.run_id, status=run.status.value, reason="the devkit executes it and ends it itself"
        )


def _progress(request: dict[str, Any]) -> Progress | None:
    sent = request.get("progress")
    if sent is None:
        return None
    if isinstance(sent, dict):
        message = sent.get("milestone") or request.get("progressMessage") or ""
        return Progress(round(sent["percent"]), message, sent.get("estimated_completion"), utc_now())
    return Progress(round(sent), request.get("progressMessage") or "", None, utc_now())


def _external_error(sent: Any) -> RunError:
    if isinstance(sent, dict):
        message = str(sent.get("message") or "") or None
        return failure("EXTERNAL_FAILED", message, **({"code": str(sent["code"])[:100]} if sent.get("code") else {}))
    return failure("EXTERNAL_FAILED", str(sent) if sent else None)
