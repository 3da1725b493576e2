"""Files that come in parts, before they are whole.

Layout: `<root>/<id>/begun.json` (what it will be) beside `<number>.<size>.<sha256>` (the bytes of each part). A part is
renamed into place when it is whole and synced.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiofiles
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.errors import PartsInvalid, PartsNotFound
from devkit_api.objects.file_receive import drop_parts, part_file, receive
from devkit_api.objects.protocol import CHUNK, Begun, Expected, Part, check_part, check_parts
from devkit_api.state import StateError

PARTS = ".parts"
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"([0-9]{5})\.([0-9]+)\.([0-9a-f]{64})")
# What nobody completed or gave up for so long is dropped at a start.
_FORGOTTEN_SECONDS = 7 * 86_400


class FileParts:
    """Parts in folders of one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self) -> None:
        """Drop what was forgotten, and halves of parts."""
        await _clean(self._root)

    async def begin(self, namespace: str, name: str, info: dict[str, Any]) -> Begun:
        """See `ObjectStore.begin_parts`."""
        begun = Begun(namespace, name, os.urandom(16).hex())
        try:
            await _begin(self._root / begun.upload, {"namespace": namespace, "name": name, **info})
        except OSError as exc:
            raise StateError("the file could not be begun") from exc
        return begun

    async def put(self, begun: Begun, number: int, chunks: AsyncIterator[bytes], expected: Expected) -> Part:
        """See `ObjectStore.put_part`."""
        check_part(number, expected.size)
        folder = await self._folder(begun)
        async with part_file(folder, "the part could not be stored") as temporary:
            try:
                found = await receive(temporary, chunks, expected)
                await _place(temporary, folder, number, found)
            except FileNotFoundError:
                raise PartsNotFound(begun=begun.upload) from None
        return Part(number, found.size, found.sha256, found.sha256)

    async def list(self, begun: Begun) -> list[Part]:
        """See `ObjectStore.parts`."""
        return await _found(begun, await self._folder(begun))

    async def joined(self, begun: Begun, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """The bytes of all these parts, once they are found to be there. Raises as `ObjectStore.complete_parts`."""
        folder = await self._folder(begun)
        stored = {part.number: part for part in await _found(begun, folder)}
        for part in parts:
            if stored.get(part.number, part).etag != part.etag or part.number not in stored:
                raise PartsInvalid(reason=f"part {part.number} is not stored with this etag")
        found = [stored[part.number] for part in parts]
        check_parts(found)
        return _read(folder, found)

    async def info(self, begun: Begun) -> dict[str, Any]:
        """What was said when it was begun: `content_type` and `metadata`."""
        return await _about(await self._folder(begun))

    async def abort(self, begun: Begun) -> None:
        """See `ObjectStore.abort_parts`."""
        if _UPLOAD.fullmatch(begun.upload):
            await wrap(shutil.rmtree)(self._root / begun.upload, ignore_errors=True)

    async def sweep(self, is_known: Callable[[str], bool]) -> None:
        """Drop what was begun in namespaces that are not known, and what is of none."""
        for folder in await _folders(self._root):
            try:
                namespace = (await _about(folder)).get("namespace", "")
            except (OSError, ValueError):
                namespace = ""
            if not is_known(namespace):
                await wrap(shutil.rmtree)(folder, ignore_errors=True)

    async def _folder(self, begun: Begun) -> Path:
        folder = self._root / begun.upload
        try:
            about = await _about(folder) if _UPLOAD.fullmatch(begun.upload) else {}
        except (OSError, ValueError):
            about = {}
        if (about.get("namespace"), about.get("name")) != (begun.namespace, begun.name):
            raise PartsNotFound(begun=begun.upload[:64])
        return folder


async def _read(folder: Path, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        async with aiofiles.open(folder / _file_name(part.number, part.size, part.sha256), "rb") as file:
            while chunk := await file.read(CHUNK):
                yield chunk


def _file_name(number: int, size: int, sha256: str) -> str:
    return f"{number:05d}.{size}.{sha256}"


async def _found(begun: Begun, folder: Path) -> list[Part]:
    try:
        return await _stored(folder)
    except FileNotFoundError:  # given up a moment ago
        raise PartsNotFound(begun=begun.upload) from None


@wrap
def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = jsonio.loads_trusted((folder / "begun.json").read_bytes())
    return about


@wrap
def _begin(folder: Path, about: dict[str, Any]) -> None:
    make_folder_durable(folder)
    write_atomic(folder / "begun.json", jsonio.dumps(about))
    fsync_folder(folder)


@wrap
def _place(temporary: Path, folder: Path, number: int, found: Expected) -> None:
    target = folder / _file_name(number, found.size, found.sha256)
    temporary.replace(target)
    for other in folder.glob(f"{number:05d}.*"):
        if other != target:
            other.unlink(missing_ok=True)
    fsync_folder(folder)


@wrap
def _folders(root: Path) -> list[Path]:
    return list(root.glob("*"))


@wrap
def _stored(folder: Path) -> list[Part]:
    found = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        match = _PART.fullmatch(path.name)
        if match:
            found[int(match[1])] = Part(int(match[1]), int(match[2]), match[3], match[3])
    return [found[number] for number in sorted(found)]


@wrap
def _clean(root: Path) -> None:
    for folder in root.glob("*"):
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - _FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        drop_parts(folder)
