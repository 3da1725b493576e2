"""Source bundles: immutable, content-addressed copies of a module's folder.

A run executes the bundle its module had when the run was started, so editing a module never changes a run in flight.
What may be in a source is in `source_files.py`, for zips in `archives.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiofiles.os import wrap

from devkit_api.atomic import fsync_folder, make_folder_durable
from devkit_api.errors import SourceInvalid
from devkit_api.modules import archives
from devkit_api.modules.models import Bundle
from devkit_api.modules.source_files import MANIFEST, MAX_FILES, SourceFile, folder_files

_CHUNK = 1024 * 1024
# Checks a manifest.json and hands it back parsed.
Accept = Callable[[bytes], dict[str, Any]]


class BundleStore:
    """Bundles under one directory: `<root>/<two hex digits>/<digest>/…`."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def path(self, digest: str) -> Path:
        """Where the files of a bundle are."""
        return self._root / digest[:2] / digest

    async def add_folder(self, folder: Path, accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        """Copy a module's folder. `accept` gets its manifest.json and may refuse; then nothing is kept.

        Raises `SourceInvalid`, what `accept` raises, or `OSError` when the copy cannot be written.
        """
        return await self._add_folder(folder, accept)

    async def add_zip(self, archive: Path, accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        """Unpack a zip of a module's folder, else as `add_folder`."""
        return await self._add_zip(archive, accept)

    async def read_zip(self, archive: Path, names: frozenset[str], most: int) -> dict[str, bytes]:
        """The named files of a zip that `add_zip` would take, each up to `most` bytes and one. Nothing is unpacked.

        Raises `SourceInvalid`.
        """
        return await self._read_zip(archive, names, most)

    async def is_intact(self, bundle: Bundle) -> bool:
        """Whether every file of a stored bundle is what it was: its digest is computed anew."""
        return await self._is_intact(bundle)

    async def open(self) -> None:
        """Make the directory."""
        await self._open()

    async def remove(self, digest: str) -> None:
        """Remove one bundle."""
        await asyncio.to_thread(_remove_tree, self.path(digest))

    async def sweep(self, used: set[str]) -> int:
        """Remove bundles that nothing refers to and leftovers of interrupted copies; how many went."""
        return await self._sweep(used)

    @wrap
    def _open(self) -> None:
        make_folder_durable(self._root)

    @wrap
    def _is_intact(self, bundle: Bundle) -> bool:
        root, digests = self.path(bundle.digest), {}
        try:
            for path in root.rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        name = path.relative_to(root).as_posix()
                        digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        return _combined(digests) == bundle.digest

    @wrap
    def _add_folder(self, folder: Path, accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        return self._store(folder_files(folder), accept)

    @wrap
    def _add_zip(self, archive: Path, accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        with archives.opened(archive) as opened:
            return self._store(archives.files(opened, self._max_bytes), accept)

    @wrap
    def _read_zip(self, archive: Path, names: frozenset[str], most: int) -> dict[str, bytes]:
        found = {}
        with archives.opened(archive) as opened:
            for count, file in enumerate(archives.files(opened, self._max_bytes)):
                if count >= MAX_FILES:
                    raise SourceInvalid(reason=f"it holds more than {MAX_FILES} files")
                if str(file.name) in names:
                    with file.open() as source:
                        found[str(file.name)] = source.read(most + 1)
        return found

    def _store(self, files: Iterator[SourceFile], accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        staging = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self._root))
        try:
            bundle = self._fill(staging, files)
            manifest = accept(_read_manifest(staging))
            self._publish(staging, self.path(bundle.digest))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return bundle, manifest

    def _fill(self, staging: Path, files: Iterator[SourceFile]) -> Bundle:
        digests: dict[str, str] = {}
        size = 0
        for file in files:
            name = str(file.name)
            if name in digests:
                raise SourceInvalid(reason=f"it names {name[:100]!r} twice")
            if len(digests) >= MAX_FILES:
                raise SourceInvalid(reason=f"it holds more than {MAX_FILES} files")
            digests[name], written = _copy(file, staging / file.name, self._max_bytes - size)
            size += written
        if MANIFEST not in digests:
            raise SourceInvalid(reason="there is no manifest.json at its top")
        return Bundle(_combined(digests), len(digests), size)

    def _publish(self, staging: Path, target: Path) -> None:
        if target.is_dir():
            return
        make_folder_durable(target.parent)
        for folder, _, names in os.walk(staging, topdown=False):
            for name in names:
                Path(folder, name).chmod(0o444)
            fsync_folder(Path(folder))
            Path(folder).chmod(0o555)
        staging.chmod(0o755)  # a folder must be writable to be renamed by an ordinary user
        with suppress(FileExistsError, OSError):
            staging.rename(target)
        if not target.is_dir():
            raise SourceInvalid(reason="it could not be stored")
        target.chmod(0o555)
        fsync_folder(target.parent)

    @wrap
    def _sweep(self, used: set[str]) -> int:
        removed = 0
        for folder in [*self._root.glob(".incoming-*"), *self._root.glob("[0-9a-f][0-9a-f]/*")]:
            if folder.name not in used:
                _remove_tree(folder)
                removed += 1
        return removed


def _combined(digests: dict[str, str]) -> str:
    """The digest of a bundle from those of its files."""
    return hashlib.sha256("".join(f"{name}\0{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def _remove_tree(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    if path.stat().st_size > 1024 * 1024:
        raise SourceInvalid(reason="its manifest.json is larger than 1 MiB")
    return path.read_bytes()


def _copy(file: SourceFile, target: Path, allowance: int) -> tuple[str, int]:
    digest, written = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("xb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise SourceInvalid(reason=f"{str(file.name)[:100]!r} is a file and a folder at once") from None
    with sink, file.open() as source:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            # Counted while unpacking: a zip's own sizes may lie.
            if written > allowance:
                raise SourceInvalid(reason="it is larger than DEVKIT_MAX_SOURCE_BYTES when unpacked")
            digest.update(chunk)
            sink.write(chunk)
        sink.flush()
        os.fsync(sink.fileno())
    return digest.hexdigest(), written
