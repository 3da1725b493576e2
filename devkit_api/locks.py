"""Locks per key, and gates that are closed while something is reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakValueDictionary

from devkit_api.errors import Unavailable


class KeyedLocks:
    """Tasks that name the same key go one at a time; nothing is kept of a key that nobody works on."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, key: str) -> asyncio.Lock:
        """The lock of `key`; `async with` keeps it there."""
        return self._locks.setdefault(key, asyncio.Lock())


class Gate:
    """Many go through at a time, until somebody closes it."""

    def __init__(self) -> None:
        self._closing = asyncio.Lock()
        self._is_closed = False
        self._inside = 0
        self._nobody_inside = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether nobody may enter now."""
        return self._is_closed

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counted as inside. Raises `Unavailable` while closed."""
        if self._is_closed:
            raise Unavailable(what="The devkit, which is being reset,", headers={"Retry-After": "1"})
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._nobody_inside.set()

    @asynccontextmanager
    async def entered_when_open(self) -> AsyncIterator[None]:
        """As `entered`, after a wait while it is closed."""
        while self._is_closed:
            async with self._closing:  # free again when whoever closed it is done
                pass
        with self.entered():
            yield

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Nobody enters meanwhile, and who was inside when this was entered has left.

        Whoever closes it at the same time waits for his turn.
        """
        async with self._closing:
            self._is_closed = True
            try:
                while self._inside:
                    self._nobody_inside.clear()
                    await self._nobody_inside.wait()
                yield
            finally:
                self._is_closed = False
