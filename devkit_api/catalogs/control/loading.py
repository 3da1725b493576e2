"""Loading one ingestion job, in a thread that gives up when it is told to."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import psycopg2

from devkit_api.catalogs.control.jobs import RUNNING_LOCK, complete
from devkit_api.catalogs.imports.load import ImportPlan, load
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target


class Stopped(Exception):
    """The job was cancelled, or the devkit stops."""


@attrs.define
class Work:
    """A job being loaded. `stop` makes its thread give up at the next look."""

    connection: Any = None
    stop: bool = False
    phase: str = "reading"
    rows: dict[int, int] = attrs.Factory(dict)

    def end(self) -> None:
        """Stop as soon as can be; a statement in progress is cancelled."""
        self.stop = True
        if self.connection is not None and not self.connection.closed:
            # A server that is away has nothing left to cancel.
            with suppress(psycopg2.Error):
                self.connection.cancel()

    def look(self) -> None:
        """Raises `Stopped` when that is what is wanted."""
        if self.stop:
            raise Stopped

    def view(self) -> dict[str, Any]:
        """For answers."""
        return {"phase": self.phase, "rows": sum(self.rows.values())}


def load_job(target: Target, job_id: str, plan: ImportPlan, work: Work) -> None:
    """Write the job's version and that it is completed, both or neither. Blocking. Raises as `load`, and `Stopped`."""
    with connect(target) as connection:
        work.connection = connection
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [RUNNING_LOCK, job_id])
        try:
            load(connection, plan, _JobWatch(job_id, work))
        except psycopg2.errors.QueryCanceled:
            work.look()
            raise


class _JobWatch:
    """An import's `Watch`: gives up when told to, and completes the job with its version."""

    def __init__(self, job_id: str, work: Work) -> None:
        self._job_id, self._work = job_id, work

    def read(self, source: int, read_bytes: int, rows: int) -> None:
        self._work.rows[source] = rows
        self._work.look()

    def writing(self) -> None:
        self._work.phase = "writing"
        self._work.look()

    def before_commit(self, cursor: Any, version_id: str) -> None:
        self._work.look()
        if not complete(cursor, self._job_id, version_id):
            raise Stopped  # cancelled a moment ago
