"""Writes on their way into a store: those that arrive while it is busy are committed together.

A document written twice meanwhile is written once, in its last form, so a document is in one commit at a time and
writes to it take effect in the order of the calls. A caller that goes away takes nothing back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import attrs

from devkit_api.state.store import StateError, WriteRefused

log = logging.getLogger(__name__)

# Collection and key of a document.
Key = tuple[str, str]
# Applies changes (None deletes); the answer holds the reason for each that failed.
Commit = Callable[[Mapping[Key, bytes | None]], Awaitable[Mapping[Key, str]]]


@attrs.define
class Write:
    """One change: the bytes (None deletes) and who waits for it."""

    data: bytes | None
    waiters: list[asyncio.Future[None]] = attrs.Factory(list)

    def done(self, failure: str | None, key: Key) -> None:
        """Tell who waits."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(WriteRefused(f"{key[0]}: {failure}"))


class WriteQueue:
    """Hands changes to `commit`, one batch after the other, each of at most `most_bytes` or one document."""

    def __init__(self, commit: Commit, most_bytes: int | None = None) -> None:
        self._commit = commit
        self._most_bytes = most_bytes
        self._pending: dict[Key, Write] = {}
        self._in_flight: dict[Key, Write] = {}
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Begin to commit."""
        self._closing = False
        self._writer = asyncio.create_task(self._write_loop(), name="state-writer")

    async def close(self) -> None:
        """Commit what is pending, and take no more."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
            self._writer = None

    @property
    def is_closing(self) -> bool:
        """Whether no more is taken."""
        return self._closing

    def coming(self, key: Key) -> Write | None:
        """The change that the document is about to see, or None."""
        return self._pending.get(key) or self._in_flight.get(key)

    def keys(self, collection: str) -> set[str]:
        """Documents of a collection that have a change coming."""
        return {key for place in (self._pending, self._in_flight) for found, key in place if found == collection}

    async def submit(self, key: Key, data: bytes | None) -> None:
        """Returns when the change is durable. Raises `StateError`."""
        if self._writer is None or self._closing:
            raise StateError("the state store is closed")
        write = self._pending.setdefault(key, Write(data))
        write.data = data
        waiter = asyncio.get_running_loop().create_future()
        write.waiters.append(waiter)
        self._wake.set()
        await waiter  # who goes away cancels this alone: others may already rely on the write

    def refuse_pending(self, reason: str) -> None:
        """Give up what no commit has begun."""
        given_up, self._pending = self._pending, {}
        for key, write in given_up.items():
            write.done(reason, key)

    async def _write_loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._in_flight = self._take()
            if self._in_flight:
                await self._commit_batch(self._in_flight)
                self._in_flight = {}
            elif self._closing:
                return
            if self._closing or self._pending:
                self._wake.set()

    def _take(self) -> dict[Key, Write]:
        """The next batch: everything, or what came first of it."""
        if self._most_bytes is None:
            taken, self._pending = self._pending, {}
            return taken
        taken, size = {}, 0
        for key, write in self._pending.items():
            size += len(write.data or b"") + len(key[1])
            if taken and size > self._most_bytes:
                break
            taken[key] = write
        for key in taken:
            del self._pending[key]
        return taken

    async def _commit_batch(self, batch: dict[Key, Write]) -> None:
        try:
            failures = await self._commit({key: write.data for key, write in batch.items()})
        except Exception:
            # Whatever it is: the writer must go on, and nobody may wait for ever.
            log.exception("documents could not be stored")
            failures = dict.fromkeys(batch, "the write failed")
        for key, write in batch.items():
            failure = failures.get(key)
            write.done(failure, key)
            if failure is not None:
                log.error("a document could not be stored", extra={"document": key[1], "reason": failure})
