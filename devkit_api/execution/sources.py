"""The source a run sees: a copy of the bundle where a module could write to it, the bundle itself elsewhere.

Where modules run as the devkit's own user, nothing keeps one from writing to the files it was imported from. It gets a
copy, which is checked before each run and made anew from the bundle when it is not as it was made. A bundle that was
changed itself is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
from aiofiles.os import wrap

from devkit_api.execution.workdir import remove_tree
from devkit_api.locks import KeyedLocks

_Fingerprint = tuple[tuple[str, int, int, int, int], ...]


class SourceChanged(Exception):
    """The stored bundle is not what was registered."""


@attrs.define
class ServedSources:
    """Copies of bundles under `root`, one per digest."""

    root: Path
    bundle_path: Callable[[str], Path]
    _made: dict[str, _Fingerprint] = attrs.Factory(dict)
    _locks: KeyedLocks = attrs.Factory(KeyedLocks)

    def path(self, digest: str) -> Path:
        """Where the copy is."""
        return self.root / digest

    async def ready(self, digest: str) -> Path:
        """The copy, exactly as it was registered. Raises `SourceChanged` or `OSError`."""
        async with self._locks.of(digest):  # runs that begin at once need one copy
            return await self._ready(digest)

    @wrap
    def _ready(self, digest: str) -> Path:
        target = self.path(digest)
        if self._made.get(digest) != _fingerprint(target):
            self._make(digest, target)
        return target

    def _make(self, digest: str, target: Path) -> None:
        fresh = target.with_name(f".{digest}")
        remove_tree(fresh)
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        shutil.copytree(self.bundle_path(digest), fresh, symlinks=True)
        if _digest(fresh) != digest:
            remove_tree(fresh)
            raise SourceChanged
        remove_tree(target)
        fresh.rename(target)
        self._made[digest] = _fingerprint(target)


def _fingerprint(folder: Path) -> _Fingerprint:
    """Who writes to a file, or makes or removes one, changes a time that only the kernel can set."""
    return tuple(sorted(_entries(str(folder))))


def _entries(folder: str) -> Iterator[tuple[str, int, int, int, int]]:
    with suppress(OSError):
        info = os.lstat(folder)
        yield folder, info.st_ino, info.st_mode, info.st_size, info.st_ctime_ns
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                info = entry.stat(follow_symlinks=False)
                yield entry.path, info.st_ino, info.st_mode, info.st_size, info.st_ctime_ns


def _digest(folder: Path) -> str:
    """As `BundleStore` computes it: sha256 over names and contents."""
    digests = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            digests[str(path.relative_to(folder))] = "" if path.is_symlink() else _file_digest(path)
    return hashlib.sha256("".join(f"{name}\0{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
