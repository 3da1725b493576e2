"""How much a run may save. A grant counts when it is given, whatever is sent: a run cannot promise itself more."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from devkit_api.errors import RunQuotaExceeded
from devkit_api.locks import KeyedLocks
from devkit_api.objects.namespaces import run_files
from devkit_api.objects.protocol import ObjectStore

_REMEMBERED = 1024


class RunQuota:
    """Counts bytes and files per run, beginning with what the store holds."""

    def __init__(self, store: ObjectStore, max_bytes: int, max_files: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._books: OrderedDict[str, _Book] = OrderedDict()
        self._locks, self._changing = KeyedLocks(), KeyedLocks()

    async def take(self, run_id: str, name: str, size: int) -> None:
        """Count a file that may now be put. Raises `RunQuotaExceeded` with nothing counted."""
        book = await self._book(run_id)
        # An earlier, larger grant for the same name may still be used.
        more = max(0, size - book.sizes.get(name, 0))
        if book.total + more > self._max_bytes:
            raise RunQuotaExceeded(limit=f"{self._max_bytes} bytes", setting="DEVKIT_MAX_RUN_BYTES")
        if name not in book.sizes and len(book.sizes) >= self._max_files:
            raise RunQuotaExceeded(limit=f"{self._max_files} files", setting="DEVKIT_MAX_RUN_FILES")
        book.total += more
        book.sizes[name] = book.sizes.get(name, 0) + more

    def alone_with(self, run_id: str, name: str) -> asyncio.Lock:
        """Held while a granted file is put in place, and while it is deleted: no bytes are given back in between."""
        return self._changing.of(f"{run_id}/{name}")

    def give_back(self, run_id: str, name: str) -> None:
        """A file was deleted; a grant for it that is still about is good for nothing from now on."""
        book = self._books.get(run_id)
        if book is not None:
            book.total -= book.sizes.pop(name, 0)

    def covers(self, run_id: str, name: str, size: int) -> bool:
        """Whether a put of so many bytes is counted. Of a run nothing was granted to by this server, all are."""
        book = self._books.get(run_id)
        return book is None or size <= book.sizes.get(name, -1)

    async def _book(self, run_id: str) -> _Book:
        async with self._locks.of(run_id):
            if run_id not in self._books:
                self._books[run_id] = await self._count(run_id)
                if len(self._books) > _REMEMBERED:
                    self._books.popitem(last=False)
        self._books.move_to_end(run_id)
        return self._books[run_id]

    async def _count(self, run_id: str) -> _Book:
        sizes: dict[str, int] = {}
        after: str | None = ""
        while after is not None:
            listed, after = await self._store.list(run_files(run_id), after=after)
            sizes |= {item.name: item.size for item in listed}
        return _Book(sizes)


class _Book:
    """What one run has been granted, by name, and the sum of it."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.total = sum(sizes.values())
