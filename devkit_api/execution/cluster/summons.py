"""What Dask carries: a task that has a worker call the devkit. The scheduler imports it too, so it imports little."""

from __future__ import annotations

import attrs


@attrs.frozen
class Summons:
    """Where the devkit waits, and the ticket for the run. `authority` (PEM) is to be trusted besides the usual ones."""

    run_id: str
    url: str
    ticket: str = attrs.field(repr=False)
    authority: str | None = attrs.field(default=None, repr=False)


async def answer(summons: Summons) -> str | None:
    """The task. None when the run was executed, or is another worker's; else why this worker cannot do it."""
    from devkit_api.execution.cluster.worker.session import answer_summons  # where the packages for it are

    return await answer_summons(summons)
