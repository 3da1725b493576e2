"""Documents as rows of PostgreSQL, one table for all collections.

A `put` returns once its transaction is on the server's disk (`synchronous_commit`). Writes that arrive meanwhile are
committed together (`queue.py`, `writes.py`). Only the devkit that owns the state writes (`ownership.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from devkit_api import jsonio
from devkit_api.database.pool import Pool, Row, execute
from devkit_api.database.target import Target
from devkit_api.errors import Unavailable
from devkit_api.state.names import checked, dumped
from devkit_api.state.postgres.ownership import Ownership
from devkit_api.state.postgres.writes import Writer
from devkit_api.state.queue import WriteQueue
from devkit_api.state.store import Document

_STATEMENT_SECONDS = 30.0
_READERS = 4
_PAGE = 256
_BATCH_BYTES = 8 * 1024 * 1024
_READ_PATIENCE, _SCAN_PATIENCE = 3.0, 20.0
_GET = "SELECT document::text FROM devkit_state.documents WHERE collection = %s AND key = %s"
_SCAN = (
    "SELECT key, document::text FROM devkit_state.documents WHERE collection = %s AND key > %s ORDER BY key LIMIT %s"
)
_KEYS = "SELECT key FROM devkit_state.documents WHERE collection = %s"


class PostgresStore:
    """`DocumentStore` on a database that one devkit owns."""

    def __init__(self, target: Target) -> None:
        self.ownership = Ownership(target)
        self._reads = Pool(target.owner(), _READERS, _STATEMENT_SECONDS)
        self._writes = Pool(target.owner(), 1, _STATEMENT_SECONDS)
        writer = Writer(self._writes, self.ownership)
        self._queue = WriteQueue(writer.commit, _BATCH_BYTES)
        writer.refuse_pending = self._queue.refuse_pending
        writer.is_closing = lambda: self._queue.is_closing

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by name, for metrics."""
        return {"stateReads": self._reads, "stateWrites": self._writes}

    async def open(self) -> None:
        """Take over and connect. Raises `StoreLocked`, or `SettingsError` when the database cannot be used."""
        await self.ownership.take()
        try:
            await self._reads.open()
            await self._writes.open()
        except BaseException:
            await self._disconnect()
            raise
        self._queue.start()

    async def close(self) -> None:
        """Commit what is pending, disconnect, and let another take over."""
        await self._queue.close()
        await self._disconnect()

    async def scan(self, collection: str) -> AsyncIterator[tuple[str, Document]]:
        """Every document, in pages."""
        last, is_full = "", True
        while is_full:
            rows = await self._read(_SCAN, [collection, last, _PAGE], _SCAN_PATIENCE)
            for key, text in rows:
                yield key, jsonio.loads_trusted(text)
            is_full = len(rows) == _PAGE
            last = rows[-1][0] if rows else last

    async def get(self, collection: str, key: str) -> Document | None:
        """One document, or the form a pending write will give it."""
        coming = self._queue.coming(checked(collection, key))
        if coming is not None:
            return None if coming.data is None else jsonio.loads_trusted(coming.data)
        rows = await self._read(_GET, [collection, key], _READ_PATIENCE)
        return jsonio.loads_trusted(rows[0][0]) if rows else None

    async def put(self, collection: str, key: str, document: Document) -> None:
        """Durable create or replace."""
        await self._queue.submit(checked(collection, key), dumped(collection, key, document))

    async def delete(self, collection: str, key: str) -> None:
        """Durable removal."""
        await self._queue.submit(checked(collection, key), None)

    async def clear(self, collection: str) -> None:
        """Durable removal of a whole collection."""
        # Those on their way to the server as well: when the table has been read, they may have arrived.
        keys = self._queue.keys(collection)
        keys.update(key for (key,) in await self._read(_KEYS, [collection], _SCAN_PATIENCE))
        await asyncio.gather(*(self.delete(collection, key) for key in keys))

    async def _disconnect(self) -> None:
        await self._writes.close()
        await self._reads.close()
        await self.ownership.release()

    async def _read(self, statement: str, parameters: list[Any], patience: float) -> list[Row]:
        """Rows. Raises `Unavailable` when the database does not answer within `patience` seconds or so."""

        async def ask(cursor: Any) -> list[Row]:
            await execute(cursor, statement, parameters)
            rows: list[Row] = await cursor.fetchall()
            return rows

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(patience),
            wait=wait_random_exponential(0.05, max=1),
            reraise=True,
        )
        return await retrying(self._reads.run_reading, ask)
