"""A zip archive looked at before Python's reader holds all of it: its directory is bounded, and so is its promise."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from devkit_api.errors import SourceInvalid

MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_RATIO = 100
_RATIO_FROM = 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_END64_SIGNATURE = b"PK\x06\x07"
_LONGEST_COMMENT = 0xFFFF


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
