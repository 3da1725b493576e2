"""Objects as files.

Layout: `<root>/<two hex digits>/<run id>/<sha256 of the name>.json` (what is known of the object) beside
`<sha256 of the name>.<version>` (its bytes). The JSON is renamed into place last, so an object is visible whole or not
at all, and no text of a user is part of a path.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import aiofiles
import attrs
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.errors import ChecksumMismatch
from devkit_api.ids import utc_now
from devkit_api.objects.protocol import Expected, ObjectInfo
from devkit_api.state import StateError

_CACHED_NAMESPACES = 128


class FileObjectStore:
    """`ObjectStore` on a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._indexes: OrderedDict[str, dict[str, ObjectInfo]] = OrderedDict()
        # Held as long as somebody uses them.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Make the directory and remove uploads an unclean stop left half-written."""
        await _prepare(self._root)

    async def close(self) -> None:
        """Nothing is held open."""

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected, info: dict[str, Any]
    ) -> ObjectInfo:
        """See `ObjectStore.put`."""
        stored = ObjectInfo(
            name=name,
            size=expected.size,
            sha256=expected.sha256,
            content_type=info["content_type"],
            version=os.urandom(8).hex(),
            created_at=utc_now(),
            metadata=info["metadata"],
        )
        folder = self._folder(namespace)
        content = folder / f"{_digest(name)}.{stored.version}"
        temporary = self._root / f".{stored.version}.part"
        try:
            await _receive(temporary, chunks, expected)
            # One commit at a time per namespace: disk and index agree on who was last.
            async with self._lock(namespace):
                await _make_folder(folder)
                await _commit(temporary, content, folder / f"{_digest(name)}.json", stored)
                index = await self._index(namespace)
                replaced = index.get(name)
                index[name] = stored
        except OSError as exc:
            raise StateError("the file could not be stored") from exc
        finally:
            await _unlink(temporary)
        if replaced is not None and replaced.version != stored.version:
            await _unlink(folder / f"{_digest(name)}.{replaced.version}")
        return stored

    async def stat(self, namespace: str, name: str) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        return (await self._index(namespace)).get(name)

    async def local_path(self, namespace: str, name: str) -> Path | None:
        """See `ObjectStore.local_path`."""
        info = await self.stat(namespace, name)
        return self._folder(namespace) / f"{_digest(name)}.{info.version}" if info else None

    async def list(self, namespace: str, *, prefix: str, after: str, limit: int) -> tuple[list[ObjectInfo], str | None]:
        """See `ObjectStore.list`."""
        index = await self._index(namespace)
        names = sorted(name for name in index if name.startswith(prefix))
        start = bisect_right(names, after) if after else 0
        shown = names[start : start + limit]
        more = start + limit < len(names)
        return [index[name] for name in shown], shown[-1] if more else None

    async def delete(self, namespace: str, name: str) -> None:
        """See `ObjectStore.delete`."""
        async with self._lock(namespace):
            index = await self._index(namespace)
            info = index.pop(name, None)
            if info is not None:
                folder = self._folder(namespace)
                await _unlink(folder / f"{_digest(name)}.json")
                await _unlink(folder / f"{_digest(name)}.{info.version}")

    async def delete_namespace(self, namespace: str) -> None:
        """See `ObjectStore.delete_namespace`."""
        async with self._lock(namespace):
            self._indexes.pop(namespace, None)
            await _remove_tree(self._folder(namespace))

    async def sweep(self, known: set[str]) -> int:
        """Remove the files of namespaces that are not known; how many namespaces went."""
        return await _sweep(self._root, known)

    def _lock(self, namespace: str) -> asyncio.Lock:
        lock = self._locks.get(namespace)
        if lock is None:
            lock = self._locks[namespace] = asyncio.Lock()
        return lock

    async def _index(self, namespace: str) -> dict[str, ObjectInfo]:
        index = self._indexes.get(namespace)
        if index is None:
            loaded = await _load_index(self._folder(namespace))
            # Another task may have loaded it meanwhile, and changed it since: the first one stays.
            index = self._indexes.setdefault(namespace, loaded)
            if len(self._indexes) > _CACHED_NAMESPACES:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(namespace)
        return index

    def _folder(self, namespace: str) -> Path:
        return self._root / hashlib.blake2b(namespace.encode(), digest_size=1).hexdigest() / namespace


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


async def _receive(target: Path, chunks: AsyncIterator[bytes], expected: Expected) -> None:
    digest, size = hashlib.sha256(), 0
    async with aiofiles.open(target, "wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > expected.size:
                raise ChecksumMismatch(what="size")
            digest.update(chunk)
            await file.write(chunk)
        await file.flush()
        await _fsync(file.fileno())
    if size != expected.size:
        raise ChecksumMismatch(what="size")
    if digest.hexdigest() != expected.sha256:
        raise ChecksumMismatch(what="SHA-256")


_fsync = wrap(os.fsync)


@wrap
def _make_folder(folder: Path) -> None:
    make_folder_durable(folder)


@wrap
def _commit(temporary: Path, content: Path, description: Path, info: ObjectInfo) -> None:
    temporary.replace(content)
    write_atomic(description, jsonio.dumps(attrs.asdict(info)))
    fsync_folder(description.parent)


@wrap
def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


@wrap
def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@wrap
def _prepare(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".*.part"):
        leftover.unlink(missing_ok=True)


@wrap
def _load_index(folder: Path) -> dict[str, ObjectInfo]:
    index = {}
    for path in folder.glob("*.json"):
        try:
            info = ObjectInfo(**jsonio.loads_trusted(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        if not isinstance(info.name, str) or not isinstance(info.size, int) or _digest(info.name) != path.stem:
            continue
        index[info.name] = info
    return index


@wrap
def _sweep(root: Path, known: set[str]) -> int:
    orphans = [folder for folder in root.glob("[0-9a-f][0-9a-f]/*") if folder.name not in known]
    for folder in orphans:
        shutil.rmtree(folder, ignore_errors=True)
    return len(orphans)
