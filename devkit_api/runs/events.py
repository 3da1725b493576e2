"""A run as a stream: state, progress, log lines, end.

The stream is read from what is stored (the run and its log) and only woken by signals, so a late joiner gets all of it
from the beginning, and one that comes back with the last id it saw goes on without a gap or a repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import attrs

from devkit_api.runs.logs import RunLogs
from devkit_api.runs.models import Run
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.watch import RunWatch

PAGE = 500
KEEP_ALIVE_SECONDS = 15.0


@attrs.frozen
class StreamEvent:
    """One event: `kind` is state, progress, log, end or keep-alive; `position` is where to go on from."""

    kind: str
    data: dict[str, Any]
    position: int


async def stream(
    run_id: str, position: int, *, repository: RunRepository, logs: RunLogs, watch: RunWatch
) -> AsyncGenerator[StreamEvent, None]:
    """Events of a run from log position `position` on, until it has ended or the devkit stops."""
    seen: dict[str, Any] = {}
    with watch.signal(run_id) as changed:
        while True:
            changed.clear()
            run = await repository.get(run_id)
            if run is None:
                return
            for kind, data in _differences(run, seen):
                yield StreamEvent(kind, data, position)
            more = False
            for line_end, event in await logs.lines(run_id, position, PAGE):
                position, more = line_end, True
                yield StreamEvent("log", event, position)
            if more:
                continue  # there may be another page, and the end comes after the last line
            if run.is_terminal or watch.released:
                yield StreamEvent("end", {"runId": run_id, "status": run.status.value}, position)
                return
            try:
                await asyncio.wait_for(changed.wait(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield StreamEvent("keep-alive", {}, position)


def _differences(run: Run, seen: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What changed since the last look: the first look shows the state as it is."""
    found = []
    if seen.get("status") != run.status:
        error = attrs.asdict(run.error) if run.error else None
        state = {"runId": run.run_id, "status": run.status.value, "error": error, "waitingFor": run.waiting_for}
        found.append(("state", state))
    if run.progress is not None and seen.get("progress") != run.progress:
        found.append(("progress", attrs.asdict(run.progress)))
    seen.update(status=run.status, progress=run.progress)
    return found
