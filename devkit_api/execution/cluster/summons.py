"""What Dask carries: a task that has a worker call the devkit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from devkit_api import jsonio

# None when the run was executed, or is another worker's; else why this worker cannot do it.
Task = Callable[[], Awaitable[str | None]]


@attrs.frozen
class Summons:
    """Where the devkit waits, and the ticket for the run. `authority` (PEM) is to be trusted besides the usual ones."""

    run_id: str
    url: str
    ticket: str = attrs.field(repr=False)
    authority: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def from_text(cls, text: str) -> Summons:
        """What `task_for` has put into the task."""
        return cls(**jsonio.loads_trusted(text.encode()))


def task_for(summons: Summons) -> Task:
    """The task of a summons.

    A function within a function is pickled whole and not by its name, and a text is nothing of ours: a scheduler or
    worker without this package can read the task, which then fails. What it cannot read would end the worker. And it
    has no arguments, which Dask would log.
    """
    text = jsonio.dumps(attrs.asdict(summons)).decode()

    async def answer_devkit() -> str | None:
        from devkit_api.execution.cluster.worker.session import answer_summons

        return await answer_summons(text)

    return answer_devkit
