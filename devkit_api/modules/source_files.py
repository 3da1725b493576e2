"""The files of a module's source, from a folder.

Sources come from people: counts and names are bounded, and links, devices and names that leave the folder are refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import attrs

from devkit_api.errors import SourceInvalid
from devkit_api.left_out import LEFT_OUT_FOLDERS, is_left_out

MANIFEST = "manifest.json"
MAX_FILES = 5_000
MAX_DEPTH = 20


@attrs.frozen
class SourceFile:
    """One file of a source before it is copied: where it goes, its size, and how to open it."""

    name: PurePosixPath
    size: int
    opener: object

    def open(self) -> BinaryIO:
        """The file, to read."""
        return self.opener()  # type: ignore[operator,no-any-return]


def source_folders(root: Path) -> list[Path]:
    """The folders that `folder_files` reads, `root` first; no more than a bundle may have files."""
    found = []
    for folder, folders, _ in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT_FOLDERS)
        found.append(Path(folder))
        if len(found) == MAX_FILES:
            break
    return found


def folder_files(root: Path) -> Iterator[SourceFile]:
    """What a bundle takes of a folder. Raises `SourceInvalid`."""
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
            check_name(relative)
            info = _lstat(path)
            if not stat.S_ISREG(info.st_mode):
                raise SourceInvalid(reason=f"{name[:100]!r} is not a regular file")
            yield SourceFile(relative, info.st_size, lambda path=path: _open_regular(path))


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


def check_name(name: PurePosixPath) -> None:
    """Refuse what is no plain, short path below the folder. Raises `SourceInvalid`."""
    text = str(name)
    if name.is_absolute() or ".." in name.parts or not text.isprintable():
        raise SourceInvalid(reason=f"the name {text[:100]!r} is not allowed")
    if len(name.parts) > MAX_DEPTH or len(text.encode("utf-8", "replace")) > 500:
        raise SourceInvalid(reason=f"the name {text[:100]!r} is too long or too deep")
    if any(len(part.encode("utf-8", "replace")) > 200 for part in name.parts):
        raise SourceInvalid(reason=f"the name {text[:100]!r} is too long")
