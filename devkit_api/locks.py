"""One lock per key, for as long as somebody holds it or waits for it."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class KeyedLocks:
    """Tasks that name the same key go one at a time; nothing is kept of a key that nobody works on."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, key: str) -> asyncio.Lock:
        """The lock of `key`; `async with` keeps it there."""
        return self._locks.setdefault(key, asyncio.Lock())
