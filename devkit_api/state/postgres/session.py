"""The one session that holds the advisory lock, and asks who has taken over last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiopg
import attrs
import psycopg2

from devkit_api.database.failures import PASSING, connection_lost, first_line
from devkit_api.database.pool import StatementCancelled, execute
from devkit_api.database.target import Target
from devkit_api.state.store import StateError

# Two numbers, the same in every devkit: of the application, and of this lock.
LOCK = (4100, 1)
_ANSWER_SECONDS = 5.0
# Either side notices within about ten seconds that the other's machine is gone. A local socket needs none of it.
_PATIENCE = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_MARK = "SELECT state_id::text, epoch, holder FROM devkit_state.owner"
_TAKE_OVER = (
    "UPDATE devkit_state.owner SET epoch = epoch + 1, holder = %s, taken_at = now()"
    " RETURNING state_id::text, epoch, holder"
)


class SessionLost(StateError):
    """The session ended, does not answer, or cannot be used now, for what the text says."""

    def __init__(self, exc: Exception) -> None:
        is_said = isinstance(exc, psycopg2.Error) and not connection_lost(exc)
        super().__init__(f"it cannot be used now ({first_line(exc)})" if is_said else "the database does not answer")


class NoState(StateError):
    """The schema is there, and what says whose it is has been removed."""

    def __init__(self) -> None:
        super().__init__("its table owner is empty")


@attrs.frozen
class Mark:
    """Whose the documents are: which state it is, how often it was taken over, and who did last."""

    state_id: str
    epoch: int
    holder: str


class Session:
    """A connection of its own. Every method raises `SessionLost` once it is gone, and `psycopg2.Error` for a statement
    that the database will not take however often it is asked.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_locked = False

    @classmethod
    async def open(cls, target: Target) -> Session:
        """Connect. Raises `psycopg2.Error` or `TimeoutError`."""
        milliseconds = int(_ANSWER_SECONDS * 1000)
        async with asyncio.timeout(_ANSWER_SECONDS):
            connection = await aiopg.connect(
                timeout=_ANSWER_SECONDS,
                enable_json=False,
                enable_hstore=False,
                enable_uuid=False,
                options=f"-c statement_timeout={milliseconds} -c synchronous_commit=on {_PATIENCE}",
                **_KEEPALIVE,
                **target.owner(),
            )
        return cls(connection)

    @property
    def is_closed(self) -> bool:
        """Whether it is gone."""
        return bool(self._connection.closed)

    async def lock(self) -> bool:
        """Take the lock, if nobody else has it; more than once is fine."""
        if not self._is_locked or self.is_closed:
            [(self._is_locked,)] = await self._ask("SELECT pg_try_advisory_lock(%s, %s)", [*LOCK])
        return self._is_locked

    async def unlock(self) -> None:
        """Give it back now: the server takes a moment to see that a session has ended."""
        if self._is_locked and not self.is_closed:
            with suppress(SessionLost, psycopg2.Error):
                await self._ask("SELECT pg_advisory_unlock(%s, %s)", [*LOCK])
        self._is_locked = False

    async def mark(self) -> Mark | None:
        """Who has taken over last; None in a database that holds no state."""
        try:
            rows = await self._ask(_MARK)
        except psycopg2.errors.UndefinedTable:
            return None
        return Mark(*rows[0]) if rows else None

    async def take_over(self, holder: str) -> Mark:
        """One epoch further. Waits for a write that is being committed. Raises `NoState`."""
        rows = await self._ask(_TAKE_OVER, [holder])
        if not rows:
            raise NoState
        return Mark(*rows[0])

    async def close(self) -> None:
        """End it, and with it the lock."""
        with suppress(psycopg2.Error):
            await self._connection.close()

    async def _ask(self, statement: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        async with self._guarded(), self._connection.cursor() as cursor:
            await execute(cursor, statement, parameters)
            rows: list[tuple[Any, ...]] = await cursor.fetchall()
            return rows

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                yield
        except (psycopg2.Error, StatementCancelled, TimeoutError, OSError) as exc:
            if isinstance(exc, psycopg2.Error) and not _may_pass(exc):
                raise
            await self.close()
            raise SessionLost(exc) from exc


def _may_pass(exc: psycopg2.Error) -> bool:
    """Whether it is about the connection or the server, not about the statement."""
    is_operational = isinstance(exc, psycopg2.OperationalError) or (exc.pgcode or "").startswith(PASSING)
    return is_operational or connection_lost(exc)
