"""From a stream of bytes to a checked, synced temporary file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from devkit_api.errors import ChecksumMismatch
from devkit_api.objects.protocol import Expected
from devkit_api.state import StateError

# Hashed and written by two threads at a time. The SDK gives an upload five seconds to be taken off its hands.
_BATCH = 2 * 1024 * 1024
_WRITEBACK = 8 * 1024 * 1024
_last_stamp = 0


@asynccontextmanager
async def part_file(folder: Path, failure: str) -> AsyncIterator[Path]:
    """A path in `folder` for bytes that are not yet known to be right; gone afterwards, unless it was moved.

    Raises `StateError` with the text `failure` for what the disk refuses.
    """
    temporary = folder / f".{os.urandom(8).hex()}.part"
    try:
        yield temporary
    except ConnectionError:
        raise  # the sender went away; nothing is wrong here
    except OSError as exc:
        raise StateError(failure) from exc
    finally:
        with suppress(OSError):
            await asyncio.to_thread(temporary.unlink)


def drop_parts(folder: Path) -> None:
    """Remove the part files that an unclean stop left."""
    for leftover in folder.glob("*.part"):
        leftover.unlink(missing_ok=True)


async def receive(target: Path, chunks: AsyncIterator[bytes], expected: Expected | None) -> Expected:
    """Write the stream to `target`; its size and SHA-256. Raises `ChecksumMismatch`, `OSError`."""
    receiver, size = _Receiver(target), 0
    writing: asyncio.Task[None] | None = None
    try:
        batch: list[bytes] = []
        waiting = 0
        async for chunk in chunks:
            batch.append(chunk)
            waiting += len(chunk)
            size += len(chunk)
            if expected is not None and size > expected.size:
                raise ChecksumMismatch(what="size")
            if waiting >= _BATCH:
                # One batch is written while the next one arrives; never more, so memory stays bounded.
                if writing is not None:
                    await asyncio.shield(writing)
                writing = asyncio.ensure_future(receiver.take(batch))
                batch, waiting = [], 0
        if writing is not None:
            await asyncio.shield(writing)
        writing = asyncio.ensure_future(receiver.take(batch, is_last=True))
        await asyncio.shield(writing)
    finally:
        # The file must not be closed under a thread that writes, and no thread can be cancelled.
        if writing is not None:
            await asyncio.wait([writing])
        receiver.close()
    found = Expected(receiver.size, receiver.digest.hexdigest())
    if expected is not None and found != expected:
        raise ChecksumMismatch(what="size" if found.size != expected.size else "SHA-256")
    return found


def unique_stamp() -> int:
    """A time of change, in nanoseconds, that no other file of this process got."""
    global _last_stamp  # noqa: PLW0603  one process owns the files
    _last_stamp = max(time.time_ns(), _last_stamp + 1)
    return _last_stamp


class _Receiver:
    def __init__(self, target: Path) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._begun = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(target, flags, 0o600), "wb", buffering=0)

    async def take(self, batch: list[bytes], *, is_last: bool = False) -> None:
        await asyncio.gather(asyncio.to_thread(self._hash, batch), asyncio.to_thread(self._write, batch))
        if is_last:
            await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _hash(self, batch: list[bytes]) -> None:
        for chunk in batch:
            self.digest.update(chunk)

    def _write(self, batch: list[bytes]) -> None:
        for chunk in batch:
            self.size += len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._begin_writeback()

    def _begin_writeback(self) -> None:
        """Have the disk begin now: the final sync then waits for the last batch alone, not for the whole file."""
        if sys.platform == "linux" and self.size - self._begun >= _WRITEBACK:
            # Pages that are still dirty are written and stay cached; only clean ones would be dropped.
            os.posix_fadvise(self._file.fileno(), self._begun, self.size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self.size
