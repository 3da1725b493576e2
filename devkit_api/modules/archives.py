"""The files of a module's source, from a zip.

An archive is looked at before Python's reader holds all of it: its directory is bounded, and so is its promise.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from devkit_api.errors import SourceInvalid
from devkit_api.left_out import is_left_out
from devkit_api.modules.source_files import MANIFEST, MAX_FILES, SourceFile, check_name

MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_RATIO = 100
_RATIO_FROM = 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_END64_SIGNATURE = b"PK\x06\x07"
_LONGEST_COMMENT = 0xFFFF
# All that zipfile raises for an archive that is damaged, encrypted or uses what Python cannot unpack.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, EOFError,
    RuntimeError, ValueError,
)  # fmt: skip


def check_directory(archive: Path) -> None:
    """Refuse an archive whose directory would fill the memory when read. Raises `SourceInvalid`."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - _END.size - _LONGEST_COMMENT - 20))
        tail = file.read()
    # The reader takes the last such record, too. 64-bit archives are for sizes that are refused anyway.
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise SourceInvalid(reason="it is not a readable zip file")
    if _END64_SIGNATURE in tail[max(0, at - 20) : at]:
        raise SourceInvalid(reason="it is a 64-bit zip file, which a module does not need")
    directory_bytes = _END.unpack_from(tail, at)[5]
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise SourceInvalid(reason="it holds too many files")


def check_ratio(opened: zipfile.ZipFile, compressed: int) -> None:
    """Refuse an archive that promises to become far larger than it is. Raises `SourceInvalid`."""
    unpacked = sum(entry.file_size for entry in opened.infolist())
    if unpacked > _RATIO_FROM and unpacked > MAX_RATIO * compressed:
        raise SourceInvalid(reason=f"it would grow to more than {MAX_RATIO} times its size when unpacked")


@contextmanager
def opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, once it is known to be bounded. Raises `SourceInvalid`, also for what is found out while reading."""
    check_directory(archive)
    try:
        with zipfile.ZipFile(archive) as reader:
            check_ratio(reader, archive.stat().st_size)
            yield reader
    except _ZIP_ERRORS as exc:
        raise SourceInvalid(reason="it is not a readable zip file") from exc


def files(archive: zipfile.ZipFile, max_bytes: int) -> Iterator[SourceFile]:
    """What a bundle takes of a zip. Raises `SourceInvalid`."""
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
        check_name(relative)
        if not is_left_out(relative):
            yield SourceFile(relative, entry.file_size, lambda entry=entry: archive.open(entry))


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
