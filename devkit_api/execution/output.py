"""The pipe on which a run writes what it prints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

_CHUNK = 64 * 1024
# Lines handed on per turn of the loop: each becomes an event, and a pipe full of line ends would hold up everybody.
_LINES = 256
# A process may go on printing while it is being ended; its run must not stay open for that.
_LONGEST_DRAIN = 10.0


class OutputPipe:
    """`write_end` goes to the run; what comes out is passed on as it comes."""

    def __init__(self, on_output: Callable[[bytes], asyncio.Future[None] | None], user: int | None) -> None:
        self._read_end, self.write_end = os.pipe()
        if user is not None:
            with suppress(OSError):
                os.fchown(self.write_end, user, user)  # so that the run can open /dev/stdout
        os.set_blocking(self._read_end, False)
        self._on_output = on_output
        self._pending = b""
        self._passed_on = 0
        self.is_held_up = False
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._readable)

    def close_write_end(self) -> None:
        """The run has its own copy now."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def drain(self, seconds: float) -> None:
        """Wait for the end of the output, or until nothing came for so long: a process may keep the pipe open."""
        deadline = monotonic() + _LONGEST_DRAIN
        seen = -1
        while (self.is_held_up or seen != self._passed_on) and not self._ended.is_set() and monotonic() < deadline:
            seen = self._passed_on
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)

    def close(self) -> None:
        """Close both ends."""
        self.close_write_end()
        self._finish()

    def _readable(self) -> None:
        try:
            data = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._finish()
            return
        self._pending = data
        self._loop.remove_reader(self._read_end)
        self._pass_on()

    def _pass_on(self) -> None:
        """A bounded piece of what was read; the rest in the next turns, and only then is more read."""
        if self._ended.is_set():
            return
        piece = first_lines(self._pending)
        self._pending = self._pending[len(piece) :]
        self._passed_on += len(piece)
        taken = self._on_output(piece)
        if taken is not None:
            self.is_held_up = True
            taken.add_done_callback(self._go_on)
        else:
            self._go_on()

    def _go_on(self, _taken: asyncio.Future[None] | None = None) -> None:
        self.is_held_up = False
        if self._ended.is_set():
            return
        if self._pending:
            self._loop.call_soon(self._pass_on)
        else:
            self._loop.add_reader(self._read_end, self._readable)

    def _finish(self) -> None:
        if not self._ended.is_set():
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._ended.set()


def first_lines(data: bytes) -> bytes:
    """As much of `data` as is handed on at a time."""
    if data.count(b"\n") <= _LINES:
        return data
    end = 0
    for _ in range(_LINES):
        end = data.index(b"\n", end) + 1
    return data[:end]
