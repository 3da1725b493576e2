"""Sources that came to this worker: by digest, checked, each fetched once, and no more of them than fit."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.errors import SourceInvalid
from devkit_api.execution.sources import SourceChanged
from devkit_api.execution.workdir import remove_tree
from devkit_api.locks import KeyedLocks
from devkit_api.modules.bundles import BundleStore

# Fills an empty folder with the files of a source.
Fetch = Callable[[Path], Awaitable[None]]


@attrs.define
class FetchedSources:
    """Bundles of at most `cache_bytes`; those that runs need stay, and the least recently used go."""

    root: Path
    bundles: BundleStore
    cache_bytes: int
    _sizes: OrderedDict[str, int] = attrs.Factory(OrderedDict)
    _held: Counter[str] = attrs.Factory(Counter)
    _locks: KeyedLocks = attrs.Factory(KeyedLocks)
    _count: int = 0

    async def open(self) -> None:
        """Make the folders."""
        await self.bundles.open()

    @asynccontextmanager
    async def held(self, digest: str, fetch: Fetch) -> AsyncIterator[None]:
        """The bundle is there meanwhile. Raises `SourceChanged` when what came is something else, or `OSError`."""
        self._held[digest] += 1
        try:
            async with self._locks.of(digest):  # runs that begin at once fetch it once
                if digest not in self._sizes:
                    self._sizes[digest] = await self._fetch(digest, fetch)
            self._sizes.move_to_end(digest)
            await self._make_room()
            yield
        finally:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]

    async def _fetch(self, digest: str, fetch: Fetch) -> int:
        self._count += 1
        staging = self.root / f"fetched-{self._count}"
        staging.mkdir(parents=True)
        try:
            await fetch(staging)
            bundle, _ = await self.bundles.add_folder(staging, _as_manifest)
        except SourceInvalid as exc:
            raise SourceChanged from exc
        finally:
            await asyncio.to_thread(remove_tree, staging)
        if bundle.digest != digest:
            if bundle.digest not in self._sizes:  # else it is another's, and right there
                await self.bundles.remove(bundle.digest)
            raise SourceChanged
        await asyncio.to_thread(_make_removable, self.bundles.path(digest))
        return bundle.size_bytes

    async def _make_room(self) -> None:
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self.cache_bytes:
                return
            if digest in self._sizes and not self._held[digest]:
                # Nobody is in its lock, as nobody holds it; who comes meanwhile waits, and fetches it again.
                async with self._locks.of(digest):
                    del self._sizes[digest]
                    await self.bundles.remove(digest)


def _make_removable(bundle: Path) -> None:
    """Dask removes the folders of workers that were killed; in folders closed to writing an ordinary user could not."""
    for folder, _, _ in os.walk(bundle):
        Path(folder).chmod(0o755)


def _as_manifest(data: bytes) -> dict[str, Any]:
    """It was checked when it was registered, and the digest says that it is the same."""
    value = jsonio.loads_trusted(data)
    return value if isinstance(value, dict) else {}
