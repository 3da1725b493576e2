"""The aiopg pools, and what aiopg leaves to its users.

Its edges, handled here and nowhere else:
- A statement the server cancels (its timeout) surfaces as `CancelledError`, as if the task were cancelled. It is told
  apart by `Task.cancelling()` and becomes `StatementCancelled`.
- Cancelling a task closes the connection, and leaves the statement running: the backend is told to stop as well.
- Connections are in autocommit: a transaction is explicit.
- After a restart of the server a pool is full of dead connections: they are dropped and the work is tried again, as
  often as there can be dead ones.
- `wait_closed()` waits for connections in use without end: it is bounded.
- Giving a closed connection back wakes nobody who waits for one.
- Who is woken for one and goes away instead wakes nobody else.
- The socket of a connection that failed stays with the event loop, and one closed twice takes another's from it
  (`sockets.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import aiopg
import psycopg2
from aiopg.connection import Cursor

from devkit_api.database import sockets
from devkit_api.database.failures import connection_lost, first_line
from devkit_api.database.pool_stats import PoolCounts, PoolStats
from devkit_api.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
Row = tuple[Any, ...]

sockets.repair()

_CLOSE_SECONDS = 5.0
_ACQUIRE_SECONDS = 5.0
# What is acknowledged is on disk, also where the server's default is otherwise.
_DURABLE = " -c synchronous_commit=on"


class StatementCancelled(Exception):
    """The server ended the statement: its time was up, or someone cancelled it."""


class Pool:
    """One aiopg pool. Lives on the event loop it was opened on."""

    def __init__(
        self, arguments: dict[str, Any], size: int, statement_seconds: float, stopper: dict[str, Any] | None = None
    ) -> None:
        self.counts = PoolCounts()
        self._stopper = stopper or arguments
        self.size = size
        self._arguments = arguments
        self._statement_seconds = statement_seconds
        self._pool: Any = None
        self._waking: asyncio.Future[None] | None = None  # kept, or it might be collected

    async def open(self, *, ready: int = 1) -> None:
        """Connect `ready` times; the rest when needed."""
        milliseconds = int(self._statement_seconds * 1000)
        self._pool = await aiopg.create_pool(
            minsize=ready,
            maxsize=self.size,
            timeout=self._statement_seconds + 5,
            enable_json=False,
            enable_hstore=False,
            enable_uuid=False,
            on_connect=self._connected,
            options=f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout=60000{_DURABLE}",
            **self._arguments,
        )

    async def close(self) -> None:
        """Close what is free, wait a moment for what is in use, then close that too."""
        if self._pool is None:
            return
        self._pool.close()
        try:
            await asyncio.wait_for(self._pool.wait_closed(), _CLOSE_SECONDS)
        except TimeoutError:
            self._pool.terminate()
        self._pool = None

    @property
    def in_use(self) -> int:
        """Connections that work now."""
        return 0 if self._pool is None else self._pool.size - self._pool.freesize

    def stats(self) -> PoolStats:
        """The pool now."""
        size = 0 if self._pool is None else self._pool.size
        counts = self.counts
        return PoolStats(self.size, size, self.in_use, counts.acquired, counts.connected, counts.refused)

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """`work(cursor)` on a pooled connection. Tried again when the connection was dead, so let it only read."""
        for _ in range(self.size + 1):
            try:
                async with self.cursor() as cursor:
                    return await work(cursor)
            except (psycopg2.DatabaseError, psycopg2.InterfaceError) as exc:
                if not connection_lost(exc):
                    raise
                lost: Exception = exc
            except TimeoutError as exc:  # no answer at all, not even that the statement's time is up
                lost = exc
                break
        log.warning("the database does not answer (%s)", first_line(lost))
        raise unavailable() from None

    async def run_reading(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """`run`, where a statement the server stopped is answered as an overloaded database."""
        try:
            return await self.run(work)
        except StatementCancelled:
            raise Unavailable(what="An answer of the database in time", headers=_RETRY) from None

    def cursor(self) -> Lent:
        """`async with`: a cursor on a connection of its own. Raises `Unavailable` when there is none in time."""
        return Lent(self)

    async def acquire(self) -> Any:
        """A connection, to be given back."""
        pool = self._pool
        if pool is None:
            raise unavailable()
        self.counts.acquired += 1
        # Most of the time one is free and nobody waits. The pool's own way, by timers, a lock and a sweep of all that
        # are free, takes as long as the statement.
        while pool._free and not pool._closing and not pool._cond._waiters:
            connection = pool._free.popleft()
            if not connection.closed:
                pool._used.add(connection)
                return connection
            connection.close()  # its socket is taken from the event loop, before the number is another file's
        try:
            # Not `wait_for`, which makes a task of every wait.
            async with asyncio.timeout(_ACQUIRE_SECONDS):
                return await self._next(pool)
        except asyncio.CancelledError:
            self._wake(pool)
            raise
        except (TimeoutError, psycopg2.Error, RuntimeError):
            self._wake(pool)
            self.counts.refused += 1
            raise unavailable() from None

    async def _next(self, pool: Any) -> Any:
        while True:
            try:
                return await pool._acquire()
            except AssertionError as exc:
                # The server closed one that was about to be lent. It is out of the pool, and all the assertion tells.
                [connection] = exc.args
                connection.close()

    def open_cursor(self, connection: Any) -> Any:
        """A cursor, made without the layers of `connection.cursor()`, which each request would pay for."""
        return Cursor(connection, connection.raw.cursor(), self._statement_seconds + 5, False)

    def give_back(self, connection: Any) -> None:
        """Back to the pool; a connection in the middle of something is closed instead."""
        pool, raw = self._pool, connection.raw
        if pool is None or connection not in pool._used:  # closed meanwhile, and perhaps opened again
            connection.close()
            return
        idle = psycopg2.extensions.TRANSACTION_STATUS_IDLE
        if connection.closed or raw.isexecuting() or raw.get_transaction_status() != idle:
            connection.close()  # a closed one as well: it is taken from the event loop
        if not (connection.closed or pool._closing or pool._cond._waiters):
            pool._used.remove(connection)
            pool._free.append(connection)
            return
        # It is back when this returns; what is left is a task of the pool's own that wakes who waits.
        pool.release(connection)
        if connection.closed:
            self._wake(pool)  # for a closed one it has none, although there is room for another now

    def _wake(self, pool: Any) -> None:
        """Let one of those who wait for a connection look again."""
        if pool._cond._waiters:
            self._waking = asyncio.ensure_future(pool._wakeup())

    async def _connected(self, _connection: Any) -> None:
        self.counts.connected += 1

    async def stop_backend(self, pid: int) -> None:
        """End what a cancelled task left running. By a connection of its own: the pool may be all busy."""
        with suppress(psycopg2.Error, TimeoutError):
            await asyncio.to_thread(_terminate, self._stopper, pid, self._arguments["user"])


class Lent:
    """A pooled connection's cursor, for as long as an `async with`."""

    __slots__ = ("_connection", "_cursor", "_pid", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Any:
        connection = self._connection = await self._pool.acquire()
        try:
            self._pid = connection.raw.get_backend_pid()
            self._cursor = self._pool.open_cursor(connection)
        except BaseException:
            self._pool.give_back(connection)
            raise
        return self._cursor

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        connection = self._connection
        try:
            if not connection.closed:
                self._cursor.close()
            elif kind is asyncio.CancelledError:
                await asyncio.shield(self._pool.stop_backend(self._pid))
        finally:
            self._pool.give_back(connection)


async def execute(cursor: Any, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> None:
    """`cursor.execute`, with the server's own cancellation told apart from the task's."""
    try:
        await cursor.execute(statement, parameters)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise StatementCancelled from None


async def fetch(pool: Pool, statement: Any, parameters: Sequence[Any] | None = None) -> list[Row]:
    """All rows of one reading statement."""

    async def work(cursor: Any) -> list[Row]:
        await execute(cursor, statement, parameters)
        rows: list[Row] = await cursor.fetchall()
        return rows

    return await pool.run_reading(work)


async def write(pool: Pool, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[Row]:
    """One writing statement with RETURNING; its rows. Dead connections are found before it is sent. It is never sent
    twice: when the connection is lost under it, who asked must look whether it took effect. But for one that the server
    ended with nothing done, because two waited for each other.
    """
    for _ in range(pool.size + 1):
        sent = False
        try:
            async with pool.cursor() as cursor:
                await execute(cursor, "SELECT 1")
                sent = True
                await execute(cursor, statement, parameters)
                rows: list[Row] = await cursor.fetchall()
                return rows
        except (StatementCancelled, TimeoutError):
            raise Unavailable(what="An answer of the database in time", headers=_RETRY) from None
        except psycopg2.errors.DeadlockDetected:
            continue
        except (psycopg2.DatabaseError, psycopg2.InterfaceError) as exc:
            if not connection_lost(exc):
                raise
            if sent:
                break
    raise unavailable()


def unavailable() -> Unavailable:
    """The database cannot be reached now."""
    return Unavailable(what="The database", headers=_RETRY)


_RETRY = {"Retry-After": "1"}


def _terminate(arguments: dict[str, Any], pid: int, user: str) -> None:
    connection = psycopg2.connect(**arguments)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = %s", [pid, user]
            )
    finally:
        connection.close()
