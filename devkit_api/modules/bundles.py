"""Source bundles: immutable, content-addressed copies of a module's folder.

A run executes the bundle its module had when the run was started, so editing a module never changes a run in flight.
Sources come from people: sizes and counts are bounded, and links, devices and names that leave the folder are refused.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import attrs
from aiofiles.os import wrap

from devkit_api.atomic import fsync_folder, make_folder_durable
from devkit_api.errors import SourceInvalid
from devkit_api.left_out import LEFT_OUT_FOLDERS, is_left_out
from devkit_api.modules import archives
from devkit_api.modules.models import Bundle

MANIFEST = "manifest.json"
MAX_FILES = 5_000
MAX_DEPTH = 20
_CHUNK = 1024 * 1024
# All that zipfile raises for an archive that is damaged, encrypted or uses what Python cannot unpack.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, EOFError,
    RuntimeError, ValueError,
)  # fmt: skip


# Checks a manifest.json and hands it back parsed.
Accept = Callable[[bytes], dict[str, Any]]


@attrs.frozen
class _File:
    """One file of a source before it is copied: where it goes, its size, and how to open it."""

    name: PurePosixPath
    size: int
    opener: object

    def open(self) -> BinaryIO:
        return self.opener()  # type: ignore[operator,no-any-return]


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
        return self._store(_folder_files(folder), accept)

    @wrap
    def _add_zip(self, archive: Path, accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        with _opened(archive) as opened:
            return self._store(_zip_files(opened, self._max_bytes), accept)

    @wrap
    def _read_zip(self, archive: Path, names: frozenset[str], most: int) -> dict[str, bytes]:
        found = {}
        with _opened(archive) as opened:
            for count, file in enumerate(_zip_files(opened, self._max_bytes)):
                if count >= MAX_FILES:
                    raise SourceInvalid(reason=f"it holds more than {MAX_FILES} files")
                if str(file.name) in names:
                    with file.open() as source:
                        found[str(file.name)] = source.read(most + 1)
        return found

    def _store(self, files: Iterator[_File], accept: Accept) -> tuple[Bundle, dict[str, Any]]:
        staging = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self._root))
        try:
            bundle = self._fill(staging, files)
            manifest = accept(_read_manifest(staging))
            self._publish(staging, self.path(bundle.digest))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return bundle, manifest

    def _fill(self, staging: Path, files: Iterator[_File]) -> Bundle:
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


def _copy(file: _File, target: Path, allowance: int) -> tuple[str, int]:
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


def _folder_files(root: Path) -> Iterator[_File]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT_FOLDERS)
        for name in [*folders, *sorted(names)]:
            if Path(folder, name).is_symlink():
                raise SourceInvalid(reason=f"{name[:100]!r} is a symbolic link")
        for name in sorted(names):
            path = Path(folder, name)
            relative = PurePosixPath(path.relative_to(root))
            if is_left_out(relative):
                continue
            _check_name(relative)
            info = _lstat(path)
            if not stat.S_ISREG(info.st_mode):
                raise SourceInvalid(reason=f"{name[:100]!r} is not a regular file")
            yield _File(relative, info.st_size, lambda path=path: _open_regular(path))


def _lstat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as exc:
        raise _unreadable(path, exc) from None


def _open_regular(path: Path) -> BinaryIO:
    # O_NOFOLLOW: the file may have been swapped for a link since it was listed.
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError as exc:
        raise _unreadable(path, exc) from None


def _unreadable(path: Path, exc: OSError) -> SourceInvalid:
    return SourceInvalid(reason=f"{path.name[:100]!r} cannot be read ({os.strerror(exc.errno or 0)})")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    archives.check_directory(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            archives.check_ratio(opened, archive.stat().st_size)
            yield opened
    except _ZIP_ERRORS as exc:
        raise SourceInvalid(reason="it is not a readable zip file") from exc


def _zip_files(archive: zipfile.ZipFile, max_bytes: int) -> Iterator[_File]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > 2 * MAX_FILES or sum(entry.file_size for entry in entries) > max_bytes:
        raise SourceInvalid(reason="it holds too many files or bytes")
    prefix = _common_folder([entry.filename for entry in entries])
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise SourceInvalid(reason="it is encrypted")
        kind = entry.external_attr >> 16
        if kind and not stat.S_ISREG(kind) and stat.S_IFMT(kind):
            raise SourceInvalid(reason=f"{entry.filename[:100]!r} is not a regular file")
        _check_raw_name(entry.filename)
        relative = PurePosixPath(entry.filename.removeprefix(prefix))
        if not relative.parts:
            raise SourceInvalid(reason="it holds a file without a name")
        _check_name(relative)
        if not is_left_out(relative):
            yield _File(relative, entry.file_size, lambda entry=entry: archive.open(entry))


def _common_folder(names: list[str]) -> str:
    """`folder/` when the whole zip lies in one folder that holds the manifest, as code hosts make their archives."""
    tops = {name.split("/", 1)[0] for name in names}
    if MANIFEST not in names and len(tops) == 1:
        top = tops.pop()
        if f"{top}/{MANIFEST}" in names:
            return f"{top}/"
    return ""


def _check_raw_name(name: str) -> None:
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise SourceInvalid(reason=f"the name {name[:100]!r} leaves the module's folder")


def _check_name(name: PurePosixPath) -> None:
    text = str(name)
    if name.is_absolute() or ".." in name.parts or not text.isprintable():
        raise SourceInvalid(reason=f"the name {text[:100]!r} is not allowed")
    if len(name.parts) > MAX_DEPTH or len(text.encode("utf-8", "replace")) > 500:
        raise SourceInvalid(reason=f"the name {text[:100]!r} is too long or too deep")
    if any(len(part.encode("utf-8", "replace")) > 200 for part in name.parts):
        raise SourceInvalid(reason=f"the name {text[:100]!r} is too long")
