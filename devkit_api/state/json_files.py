"""Documents as atomic JSON files, one per document.

Layout: `<root>/<collection>/<two hex digits>/<key>.json`. A write goes to a temporary file in the same directory,
fsync, rename, fsync of the directory; a reader sees the old document or the new one, never a part. Writes that arrive
while the disk is busy share one directory fsync (`queue.py`). Cost does not depend on how many documents exist.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, write_atomic
from devkit_api.state.folder import FolderLock
from devkit_api.state.names import checked, dumped, is_name, place_of
from devkit_api.state.queue import Key, WriteQueue
from devkit_api.state.store import Document, StateError

log = logging.getLogger(__name__)

_SCAN_BATCH = 256


class JsonFileStore:
    """`DocumentStore` on a directory that one process owns (flock)."""

    def __init__(self, root: Path, lock: FolderLock | None = None) -> None:
        self._root = root
        self._lock = lock or FolderLock(root)
        self._queue = WriteQueue(self._commit)

    async def open(self) -> None:
        """Take the lock and start the writer; temporary files of an unclean stop are removed."""
        await self._lock.take()
        try:
            await _remove_leftovers(self._root)
        except OSError as exc:
            raise StateError(f"{self._root}: {os.strerror(exc.errno or 0)}") from exc
        self._queue.start()

    async def close(self) -> None:
        """Commit what is pending, stop the writer, release the lock."""
        await self._queue.close()
        self._lock.release()

    async def scan(self, collection: str) -> AsyncIterator[tuple[str, Document]]:
        """Every document; a file that is not one is moved to `quarantine/` and logged."""
        paths = await _list_documents(self._root / collection)
        for start in range(0, len(paths), _SCAN_BATCH):
            for path, document in await _read_batch(paths[start : start + _SCAN_BATCH]):
                if document is None or not self._is_in_place(collection, path):
                    await _set_aside(self._root, path)
                else:
                    yield path.stem, document

    async def get(self, collection: str, key: str) -> Document | None:
        """One document from disk, or the form a pending write will give it."""
        path = self._path(collection, key)
        coming = self._queue.coming((collection, key))
        if coming is not None:
            return None if coming.data is None else jsonio.loads_trusted(coming.data)
        [(_, document)] = await _read_batch([path])
        return document

    async def put(self, collection: str, key: str, document: Document) -> None:
        """Durable create or replace."""
        await self._queue.submit(checked(collection, key), dumped(collection, key, document))

    async def delete(self, collection: str, key: str) -> None:
        """Durable removal."""
        await self._queue.submit(checked(collection, key), None)

    async def clear(self, collection: str) -> None:
        """Durable removal of a whole collection."""
        # Those on their way to the disk as well: when the folder has been read, they may have arrived.
        keys = self._queue.keys(collection)
        for path in await _list_documents(self._root / collection):
            if self._is_in_place(collection, path):
                keys.add(path.stem)
            else:
                await _set_aside(self._root, path)
        await asyncio.gather(*(self.delete(collection, key) for key in keys))

    def _path(self, collection: str, key: str) -> Path:
        checked(collection, key)
        return self._root / place_of(collection, key)

    def _is_in_place(self, collection: str, path: Path) -> bool:
        return is_name(path.stem) and self._path(collection, path.stem) == path

    async def _commit(self, changes: Mapping[Key, bytes | None]) -> dict[Key, str]:
        paths = {self._path(*key): key for key in changes}
        failures = await _commit_batch({path: changes[key] for path, key in paths.items()})
        return {paths[path]: reason for path, reason in failures.items()}


@wrap
def _remove_leftovers(root: Path) -> None:
    for leftover in root.glob("*/*/.*.tmp"):
        with suppress(OSError):
            leftover.unlink()


@wrap
def _list_documents(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if entry.name.endswith(".json") and entry.is_file()]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as shards:
        for shard in shards:
            if shard.is_dir():
                with os.scandir(shard) as entries:
                    yield from entries


@wrap
def _read_batch(paths: list[Path]) -> list[tuple[Path, Document | None]]:
    return [(path, _read(path)) for path in paths]


def _read(path: Path) -> Document | None:
    try:
        document = jsonio.loads_trusted(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


@wrap
def _set_aside(root: Path, path: Path) -> None:
    if not path.exists():
        return
    quarantine = root / "quarantine"
    quarantine.mkdir(exist_ok=True)
    target = _free_name(quarantine / f"{path.parent.parent.name}-{path.name}")
    path.replace(target)
    log.error("a state file is not a document and was set aside", extra={"file": str(path), "moved_to": str(target)})


def _free_name(path: Path) -> Path:
    """`path`, or with a number when that is taken: what was set aside earlier stays."""
    if not path.exists():
        return path
    return next(p for n in count(2) if not (p := path.with_name(f"{path.stem}-{n}{path.suffix}")).exists())


@wrap
def _commit_batch(changes: dict[Path, bytes | None]) -> dict[Path, str]:
    """Apply the changes; the answer holds the reason for each that failed."""
    failures: dict[Path, str] = {}
    folders: dict[Path, list[Path]] = {}
    for path, data in changes.items():
        try:
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_atomic(path, data)
        except OSError as exc:
            failures[path] = os.strerror(exc.errno or 0)
        else:
            folders.setdefault(path.parent, []).append(path)
    for folder, paths in folders.items():
        try:
            if folder.is_dir():
                fsync_folder(folder)
        except OSError as exc:
            failures.update(dict.fromkeys(paths, os.strerror(exc.errno or 0)))
    return failures
