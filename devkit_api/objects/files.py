"""Objects as files.

Layout: `<root>/<two hex digits>/<namespace>/<sha256 of the name>.json` (what is known of the object and of its earlier
versions) beside `<sha256 of the name>.<version>` (the bytes of each). The JSON is renamed into place last, so an object
is visible whole or not at all, and no text of a user is part of a path.

The version is the time of change of the bytes' file and their number, the same text that a file answer of aiohttp
has as its ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiofiles
import attrs
from aiofiles.os import wrap

from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.errors import ObjectNotFound, ObjectReplaced
from devkit_api.ids import utc_now
from devkit_api.locks import KeyedLocks
from devkit_api.objects.file_index import Entry, NamespaceIndex, digest, load_index
from devkit_api.objects.file_parts import PARTS, FileParts
from devkit_api.objects.file_receive import drop_parts, part_file, receive, unique_stamp
from devkit_api.objects.protocol import CHUNK, Begun, DirectPut, Expected, Listed, ObjectInfo, Part, Version

_CACHED_NAMESPACES = 128


class FileObjectStore:
    """`ObjectStore` on a directory of this machine."""

    def __init__(self, root: Path, version_bytes: int = 1024**3) -> None:
        """`version_bytes`: the most that earlier versions of all files of a namespace take."""
        self._root = root
        self._version_bytes = version_bytes
        self._parts = FileParts(root / PARTS)
        self._indexes: OrderedDict[str, NamespaceIndex] = OrderedDict()
        # Of a namespace: for who changes it, and inside of that for who reads it from the disk.
        self._locks, self._loading = KeyedLocks(), KeyedLocks()

    async def open(self) -> None:
        """Make the directory and remove uploads an unclean stop left half-written."""
        await _prepare(self._root)
        await self._parts.open()

    async def close(self) -> None:
        """Nothing is held open."""

    async def check(self) -> None:
        """The state's own check covers the disk."""

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected | None, info: dict[str, Any]
    ) -> ObjectInfo:
        """See `ObjectStore.put`."""
        async with part_file(self._root, "the file could not be stored") as temporary:
            return await self._keep(namespace, name, temporary, await receive(temporary, chunks, expected), info)

    async def _keep(
        self, namespace: str, name: str, temporary: Path, found: Expected, info: dict[str, Any]
    ) -> ObjectInfo:
        """Make a whole, synced file the object."""
        stamp = unique_stamp()
        os.utime(temporary, ns=(stamp, stamp))
        stored = ObjectInfo(
            name=name,
            size=found.size,
            sha256=found.sha256,
            content_type=info["content_type"],
            version=f"{stamp:x}-{found.size:x}",
            created_at=utc_now(),
            metadata=info["metadata"],
        )
        return await self._commit(namespace, stored, temporary)

    async def stat(self, namespace: str, name: str, version: str | None = None) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        entry = (await self._index(namespace)).get(name)
        if entry is None or version is None:
            return entry.info if entry else None
        return next((info for info in entry.versions if info.version == version), None)

    async def versions(self, namespace: str, info: ObjectInfo) -> list[Version]:
        """See `ObjectStore.versions`."""
        entry = (await self._index(namespace)).get(info.name)
        kept = entry.versions if entry else ()
        return [Version(one.version, one.size, one.created_at) for one in kept]

    async def read(
        self, namespace: str, name: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `ObjectStore.read`."""
        info = await self.stat(namespace, name, version)
        if info is None:
            raise ObjectReplaced(key=name) if await self.stat(namespace, name) else ObjectNotFound(key=name)
        left = info.size - start if length is None else min(length, info.size - start)
        # Once open, the bytes stay readable: a put or a deletion meanwhile does not tear what is read here.
        try:
            file = await aiofiles.open(self._content(namespace, info), "rb")
        except FileNotFoundError:
            raise ObjectReplaced(key=name) from None
        try:
            await file.seek(start)
            while left > 0 and (chunk := await file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
        finally:
            await file.close()

    async def local_path(self, namespace: str, info: ObjectInfo) -> Path | None:
        """See `ObjectStore.local_path`."""
        path = self._content(namespace, info)
        await _keep_stamp(path, info.version)
        return path

    async def direct_get(self, namespace: str, info: ObjectInfo, seconds: int) -> str | None:
        """The devkit serves its files itself."""
        return None

    async def direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut | None:  # fmt: skip
        """The devkit takes its files itself."""
        return None

    async def begin_parts(self, namespace: str, name: str, info: dict[str, Any]) -> Begun:
        """See `ObjectStore.begin_parts`."""
        return await self._parts.begin(namespace, name, info)

    async def put_part(self, begun: Begun, number: int, chunks: AsyncIterator[bytes], expected: Expected) -> Part:
        """See `ObjectStore.put_part`."""
        return await self._parts.put(begun, number, chunks, expected)

    async def parts(self, begun: Begun) -> list[Part]:
        """See `ObjectStore.parts`."""
        return await self._parts.list(begun)

    async def complete_parts(self, begun: Begun, parts: Sequence[Part]) -> ObjectInfo:
        """See `ObjectStore.complete_parts`."""
        joined = await self._parts.joined(begun, parts)
        stored = await self.put(begun.namespace, begun.name, joined, None, await self._parts.info(begun))
        await self._parts.abort(begun)
        return stored

    async def abort_parts(self, begun: Begun) -> None:
        """See `ObjectStore.abort_parts`."""
        await self._parts.abort(begun)

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Listed], str | None]:
        """See `ObjectStore.list`."""
        return (await self._index(namespace)).page(prefix, after, limit)

    async def copy(self, namespace: str, name: str, to_namespace: str, to_name: str) -> ObjectInfo:
        """See `ObjectStore.copy`. Bytes never change once stored, so the copy is another link to them."""
        async with part_file(self._root, "the file could not be copied") as temporary:
            info = await self.stat(namespace, name)
            if info is None:
                raise ObjectNotFound(key=name)
            copied = attrs.evolve(info, name=to_name, created_at=utc_now())
            try:
                await _link(self._content(namespace, info), temporary)
                return await self._commit(to_namespace, copied, temporary)
            except FileNotFoundError:
                raise ObjectNotFound(key=name) from None

    async def delete(self, namespace: str, name: str) -> None:
        """See `ObjectStore.delete`."""
        async with self._locks.of(namespace):
            entry = (await self._index(namespace)).pop(name)
            if entry is not None:
                await _unlink(self._folder(namespace) / f"{digest(name)}.json")
                for info in entry.versions:
                    await _unlink(self._content(namespace, info))

    async def delete_namespace(self, namespace: str) -> None:
        """See `ObjectStore.delete_namespace`."""
        async with self._locks.of(namespace), self._loading.of(namespace):
            self._indexes.pop(namespace, None)
            await _remove_tree(self._folder(namespace))

    async def own(self, namespace: str, listed: Sequence[Listed], *, or_unmarked: bool = False) -> Sequence[Listed]:
        """All: the folder is this devkit's alone."""
        return listed

    async def sweep(self, is_known: Callable[[str], bool]) -> int:
        """See `ObjectStore.sweep`."""
        await self._parts.sweep(is_known)
        orphans = [namespace for namespace in await _namespaces(self._root) if not is_known(namespace)]
        for namespace in orphans:
            await self.delete_namespace(namespace)
        return len(orphans)

    async def _commit(self, namespace: str, info: ObjectInfo, temporary: Path) -> ObjectInfo:
        folder = self._folder(namespace)
        # One commit at a time per namespace: disk and index agree on who was last.
        async with self._locks.of(namespace):
            entry, dropped = (await self._index(namespace)).succeed(info, self._version_bytes)
            await _store(folder, temporary, self._content(namespace, info), entry)
            # Looked up again: it may have left the cache meanwhile, and been read anew.
            (await self._index(namespace)).set(entry)
        for old in dropped:
            await _unlink(self._content(namespace, old))
        return info

    async def _index(self, namespace: str) -> NamespaceIndex:
        index = self._indexes.get(namespace)
        if index is None:
            async with self._loading.of(namespace):
                index = self._indexes.get(namespace)  # another task may have loaded it meanwhile, and changed it since
                if index is None:
                    index = self._indexes[namespace] = await asyncio.to_thread(load_index, self._folder(namespace))
            if len(self._indexes) > _CACHED_NAMESPACES:
                self._indexes.popitem(last=False)
        if namespace in self._indexes:
            self._indexes.move_to_end(namespace)
        return index

    def _content(self, namespace: str, info: ObjectInfo) -> Path:
        return place_of(self._root, namespace, info)[0]

    def _folder(self, namespace: str) -> Path:
        return _folder_of(self._root, namespace)


def place_of(root: Path, namespace: str, info: ObjectInfo) -> tuple[Path, Path]:
    """Where the bytes of a version are, and where the description of its file."""
    stem = _folder_of(root, namespace) / digest(info.name)
    return stem.with_name(f"{stem.name}.{info.version}"), stem.with_name(f"{stem.name}.json")


def _folder_of(root: Path, namespace: str) -> Path:
    return root / hashlib.blake2b(namespace.encode(), digest_size=1).hexdigest() / namespace


@wrap
def _store(folder: Path, temporary: Path, content: Path, entry: Entry) -> None:
    make_folder_durable(folder)
    was_there = content.exists()  # a copy of a file onto itself
    temporary.replace(content)
    try:
        write_atomic(folder / f"{digest(entry.info.name)}.json", entry.document())
    except OSError:
        if not was_there:  # nothing names these bytes: nobody could ever delete them
            content.unlink(missing_ok=True)
        raise
    fsync_folder(folder)


@wrap
def _keep_stamp(path: Path, version: str) -> None:
    """A copy of the state directory may have lost the times of its files, and with them the ETag of an answer."""
    stamp, divider, _ = version.partition("-")
    with suppress(OSError):  # replaced a moment ago: whoever opens it says so
        if divider and path.stat().st_mtime_ns != int(stamp, 16):
            os.utime(path, ns=(int(stamp, 16), int(stamp, 16)))


@wrap
def _link(source: Path, target: Path) -> None:
    os.link(source, target)


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
    drop_parts(root)


@wrap
def _namespaces(root: Path) -> list[str]:
    return [folder.name for folder in root.glob("[0-9a-f][0-9a-f]/*")]
