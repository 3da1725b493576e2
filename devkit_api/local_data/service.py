"""What may be seen of the configured folders, and how it is opened.

The rules, which every address shares:

- a path is relative, its parts divided by `/`; `.`, `..`, empty parts and NUL are refused before the disk is asked;
- hidden names (a leading dot) are neither listed nor opened, nor is what a link hides behind a plain name;
- a link is followed when it ends inside its root, and treated as absent when it does not;
- folders in `excluded` (the devkit's own state) are absent, wherever a root lies;
- only folders and regular files exist here: no devices, pipes or sockets; names that are not UTF-8 are left out.

Whatever is opened is walked to part by part from the root's own descriptor, following no link on the way, so that a
folder exchanged for a link in the meantime is not followed either. Absent and forbidden look the same from outside.

The disk is asked in threads of our own, and only so many at a time read a folder: many large listings, or a disk that
hangs, must not hold up the rest of the server.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import attrs

from devkit_api.errors import DataBusy, DataFolderTooLarge, DataNotFound, DataUnreadable, ParameterInvalid
from devkit_api.settings import DataRoot

MAX_PATH = 4096
MAX_NAMES = 100_000
# Listings that read their folder at the same time, and those that may wait for it.
LISTINGS = 2
WAITING = 64
_THREADS = LISTINGS + 4
# Names after which a listing lets other threads go first.
_STRETCH = 500
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking: opening a pipe must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Folders before files, then by name: (0 or 1, name).
_Key = tuple[int, str]
_T = TypeVar("_T")


@attrs.frozen
class Page:
    """Some entries of a folder, and where the next page goes on."""

    entries: list[dict[str, Any]]
    next_token: str | None


@attrs.define
class LocalData:
    """Reads under the roots. Every method that touches the disk does so in a thread."""

    roots: tuple[DataRoot, ...]
    excluded: tuple[Path, ...] = ()
    max_names: int = MAX_NAMES
    _threads: ThreadPoolExecutor = attrs.field(init=False, factory=lambda: ThreadPoolExecutor(_THREADS, "local-data"))
    _turn: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(LISTINGS))
    _listings: int = attrs.field(init=False, default=0)

    def describe(self) -> list[dict[str, str]]:
        """The roots as a page may know them: not where they are."""
        return [{"id": root.id, "label": root.label} for root in self.roots]

    async def browse(self, root_id: str, path: str, *, limit: int, token: str | None) -> Page:
        """One page of a folder. What is added or removed meanwhile repeats and hides nothing else.

        Raises `DataBusy` when too many listings wait already.
        """
        root, parts, after = self._root(root_id), split(path), _read_token(token)
        if self._listings >= LISTINGS + WAITING:
            raise DataBusy(headers={"Retry-After": "1"})
        self._listings += 1
        try:
            async with self._turn:
                return await self._in_thread(lambda: self._list(root, parts, limit, after))
        finally:
            self._listings -= 1

    async def open(self, root_id: str, path: str) -> BinaryIO:
        """A regular file, open for reading; the caller closes it."""
        root, parts = self._root(root_id), split(path)
        if not parts:
            raise DataNotFound(path=path)
        return await self._in_thread(lambda: self._open_file(root, parts))

    def close(self) -> None:
        """Take no more work; what is being read is left to its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _root(self, root_id: str) -> DataRoot:
        for root in self.roots:
            if root.id == root_id:
                return root
        raise DataNotFound(path=root_id[:100], hint="GET /dev/data/roots lists the roots; DEVKIT_DATA_ROOTS sets them.")

    def _list(self, root: DataRoot, parts: tuple[str, ...], limit: int, after: _Key | None) -> Page:
        base = _real(root.path)
        with self._located(base, parts) as (real, shown):
            folder = _open(base, real, _FOLDER, shown)
            try:
                keys, links = self._names(real, folder, shown, after)
                seen = (key for key in _in_order(keys) if key[1] not in links or self._leads_inside(base, real, key))
                found = list(islice(seen, limit + 1))
                page = found[:limit]
                entries = [_entry(folder, parts, key) for key in page]
            finally:
                os.close(folder)
        more = len(found) > limit
        return Page([entry for entry in entries if entry is not None], _make_token(page[-1]) if more else None)

    def _names(self, real: Path, folder: int, shown: str, after: _Key | None) -> tuple[list[_Key], set[str]]:
        """What comes after `after`, and which of it are links: where those lead is asked only of what is shown."""
        hidden = {path.name for path in self.excluded if path.parent == real}
        keys, links = [], set()
        with os.scandir(folder) as found:
            for count, entry in enumerate(found):
                if count >= self.max_names:
                    raise DataFolderTooLarge(path=shown, limit=self.max_names)
                if count % _STRETCH == 0:
                    # Lets go of the interpreter: a long folder must not hold up the event loop's thread.
                    time.sleep(0)
                name = entry.name
                # A name that precedes the page as a file does so as a folder too.
                if name in hidden or not _is_plain(name) or (after is not None and (1, name) <= after):
                    continue
                key = _key(entry)
                if key is not None and (after is None or key > after):
                    keys.append(key)
                    if entry.is_symlink():
                        links.add(name)
        return keys, links

    def _leads_inside(self, base: Path, real: Path, key: _Key) -> bool:
        """Whether a link ends inside the root, at what it was taken for."""
        mode = self._mode_behind(base, real / key[1])
        return mode == (stat.S_IFREG if key[0] else stat.S_IFDIR)

    def _mode_behind(self, base: Path, link: Path) -> int | None:
        try:
            target = link.resolve(strict=True)
            if not self._is_shown(base, target):
                return None
            kind = stat.S_IFMT(target.lstat().st_mode)
        except (OSError, RuntimeError):  # broken, a loop, or gone by now
            return None
        return kind if kind in {stat.S_IFDIR, stat.S_IFREG} else None

    def _open_file(self, root: DataRoot, parts: tuple[str, ...]) -> BinaryIO:
        base = _real(root.path)
        with self._located(base, parts) as (real, shown):
            descriptor = _open(base, real, _FILE, shown)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise DataNotFound(path=shown)
        return os.fdopen(descriptor, "rb")

    @contextmanager
    def _located(self, base: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
        """The real path behind `parts`; whatever the disk answers on the way becomes a catalogue error."""
        shown = "/".join(parts)
        try:
            real = base
            for part in parts:  # each step by itself: a way that leaves the root and comes back is no way
                real = (real / part).resolve(strict=True)
                if not _is_plain(part) or not self._is_shown(base, real):
                    raise DataNotFound(path=shown)
            yield real, shown
        except PermissionError:
            raise DataUnreadable(path=shown) from None
        except (OSError, RuntimeError):  # absent, overlong, a loop of links, or exchanged meanwhile
            raise DataNotFound(path=shown) from None

    def _is_shown(self, base: Path, real: Path) -> bool:
        inside = real.is_relative_to(base) and all(map(_is_plain, real.relative_to(base).parts))
        return inside and not self._is_excluded(real)

    def _is_excluded(self, real: Path) -> bool:
        return any(real.is_relative_to(folder) for folder in self.excluded)


def split(path: str) -> tuple[str, ...]:
    """The parts of a relative path; empty for the root itself. Raises `ParameterInvalid`."""
    if path == "":
        return ()
    if len(path) > MAX_PATH or "\0" in path:
        raise _bad_path(f"it must be at most {MAX_PATH} characters, without NUL")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _bad_path("it is not UTF-8") from None
    parts = tuple(path.split("/"))
    if any(part in {"", ".", ".."} for part in parts):
        raise _bad_path("it must be relative to the root, without empty, '.' or '..' parts")
    return parts


def _bad_path(reason: str) -> ParameterInvalid:
    return ParameterInvalid(name="path", reason=reason, details={"expected": "a relative path such as study/run-1.csv"})


def _is_plain(name: str) -> bool:
    """Whether a name may be shown. Names that are not UTF-8 come from the disk with surrogates in them."""
    return not name.startswith(".") and (name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name))


def _key(entry: os.DirEntry[str]) -> _Key | None:
    try:
        if entry.is_dir():
            return (0, entry.name)
        return (1, entry.name) if entry.is_file() else None
    except OSError:  # a loop of links
        return None


def _in_order(keys: list[_Key]) -> Iterator[_Key]:
    """The smallest first, without sorting what nobody reads."""
    heapq.heapify(keys)
    while keys:
        yield heapq.heappop(keys)


def _entry(folder: int, parts: tuple[str, ...], key: _Key) -> dict[str, Any] | None:
    is_file, name = key
    try:
        known = os.stat(name, dir_fd=folder)
    except OSError:
        return None  # gone since it was listed
    return {
        "name": name,
        "path": "/".join((*parts, name)),
        "kind": "file" if is_file else "dir",
        "sizeBytes": known.st_size if is_file else None,
        "modifiedAt": datetime.fromtimestamp(known.st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _real(root: Path) -> Path:
    try:
        return root.resolve(strict=True)
    except (OSError, RuntimeError):
        raise DataNotFound(path="") from None


def _open(base: Path, real: Path, flags: int, shown: str) -> int:
    """Open `real` by walking to it from `base`, following no link. Raises `OSError` or `DataNotFound`."""
    *folders, last = real.relative_to(base).parts or (".",)
    current = os.open(base, _FOLDER)
    try:
        for name in folders:
            below = os.open(name, _FOLDER, dir_fd=current)
            os.close(current)
            current = below
        return os.open(last, flags, dir_fd=current)
    except NotADirectoryError:
        raise DataNotFound(path=shown) from None
    finally:
        os.close(current)


def _make_token(key: _Key) -> str:
    return base64.urlsafe_b64encode(f"{key[0]}{key[1]}".encode()).decode().rstrip("=")


def _read_token(token: str | None) -> _Key | None:
    if token is None:
        return None
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if text[:1] not in {"0", "1"} or len(token) > MAX_PATH:
        raise ParameterInvalid(name="pageToken", reason="it is not one of ours")
    return (int(text[0]), text[1:])
