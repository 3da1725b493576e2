"""The state directory's lock: one devkit at a time, whichever backend holds the documents."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from devkit_api.state.store import StateError, StoreLocked

ADVICE = "Stop the other devkit, or set DEVKIT_STATE_DIR to another directory"


class FolderLock:
    """`flock` on `<folder>/lock`. Whoever takes it more than once gives it back as often."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._taken = 0

    async def take(self, patience: float = 0) -> None:
        """Take it, within `patience` seconds. Raises `StoreLocked`, or `StateError` for an unusable folder."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(StoreLocked),
            stop=stop_after_delay(patience),
            wait=wait_fixed(0.1),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                self._take_now()

    def release(self) -> None:
        """Give it back; the last time lets others take it."""
        self._taken -= 1
        if not self._taken and self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _take_now(self) -> None:
        if self._fd is None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._fd = _flock(self._folder / "lock")
            except OSError as exc:
                raise StateError(f"{self._folder}: {os.strerror(exc.errno or 0)}") from exc
        self._taken += 1


def _flock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno not in {errno.EAGAIN, errno.EACCES}:
            raise
        raise StoreLocked(f"another devkit is using {path.parent}", ADVICE) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd
