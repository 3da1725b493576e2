"""Documents as atomic JSON files, one per document.

Layout: `<root>/<collection>/<two hex digits>/<key>.json`. A write goes to a temporary file in the same directory,
fsync, rename, fsync of the directory; a reader sees the old document or the new one, never a part. Writes that arrive
while the disk is busy are committed together, one directory fsync for all of them, and a document written twice in
that time is written once, in its last form. Cost does not depend on how many documents exist.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import attrs
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, write_atomic
from devkit_api.state.store import Document, StateError, StoreLocked

log = logging.getLogger(__name__)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,250}")
_SCAN_BATCH = 256


@attrs.define
class _Write:
    """One pending change: the bytes (None deletes) and who waits for it."""

    data: bytes | None
    waiters: list[asyncio.Future[None]] = attrs.Factory(list)


class JsonFileStore:
    """`DocumentStore` on a directory that one process owns (flock)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock_fd: int | None = None
        self._pending: dict[Path, _Write] = {}
        self._in_flight: dict[Path, _Write] = {}
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    async def open(self) -> None:
        """Take the lock and start the writer; temporary files of an unclean stop are removed."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _take_lock(self._root / "lock")
            await _remove_leftovers(self._root)
        except OSError as exc:
            raise StateError(f"{self._root}: {os.strerror(exc.errno or 0)}") from exc
        self._closing = False
        self._writer = asyncio.create_task(self._write_loop(), name="state-writer")

    async def close(self) -> None:
        """Commit what is pending, stop the writer, release the lock."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
            self._writer = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

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
        pending = self._pending.get(path) or self._in_flight.get(path)
        if pending is not None:
            return None if pending.data is None else jsonio.loads_trusted(pending.data)
        [(_, document)] = await _read_batch([path])
        return document

    async def put(self, collection: str, key: str, document: Document) -> None:
        """Durable create or replace."""
        try:
            data = jsonio.dumps(document)
        except TypeError as exc:
            raise StateError(f"document {collection}/{key} is not JSON") from exc
        await self._submit(self._path(collection, key), data)

    async def delete(self, collection: str, key: str) -> None:
        """Durable removal."""
        await self._submit(self._path(collection, key), None)

    async def clear(self, collection: str) -> None:
        """Durable removal of a whole collection."""
        folder = self._root / collection
        # Those on their way to the disk as well; by now, or when the folder has been read, they may have arrived.
        coming = [path for path in (*self._pending, *self._in_flight) if path.parent.parent == folder]
        paths = {*coming, *await _list_documents(folder)}
        await asyncio.gather(*(self._submit(path, None) for path in paths))

    def _path(self, collection: str, key: str) -> Path:
        if not _KEY.fullmatch(key) or not _KEY.fullmatch(collection):
            raise StateError("a document key is not a plain name")
        shard = hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
        return self._root / collection / shard / f"{key}.json"

    def _is_in_place(self, collection: str, path: Path) -> bool:
        return bool(_KEY.fullmatch(path.stem)) and self._path(collection, path.stem) == path

    async def _submit(self, path: Path, data: bytes | None) -> None:
        if self._writer is None or self._closing:
            raise StateError("the state store is closed")
        write = self._pending.setdefault(path, _Write(data))
        write.data = data
        waiter = asyncio.get_running_loop().create_future()
        write.waiters.append(waiter)
        self._wake.set()
        # Shielded: a caller that goes away must not take back a write others may already rely on.
        await asyncio.shield(waiter)

    async def _write_loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._in_flight, self._pending = self._pending, {}
            if self._in_flight:
                await self._commit(self._in_flight)
                self._in_flight = {}
            elif self._closing:
                return
            if self._closing:
                self._wake.set()

    async def _commit(self, batch: dict[Path, _Write]) -> None:
        try:
            failures = await _commit_batch({path: write.data for path, write in batch.items()})
        except Exception:
            # Whatever it is: the writer must go on, and nobody may wait for ever.
            log.exception("documents could not be stored")
            failures = dict.fromkeys(batch, "the write failed")
        for path, write in batch.items():
            failure = failures.get(path)
            for waiter in write.waiters:
                if waiter.cancelled():
                    continue
                if failure is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(StateError(f"{path.parent.parent.name}: {failure}"))
            if failure is not None:
                log.error("a document could not be stored", extra={"document": path.stem, "reason": failure})


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno not in {errno.EAGAIN, errno.EACCES}:
            raise
        raise StoreLocked(f"another devkit is using {path.parent}") from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


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
