"""The pipe on which a run writes what it prints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 64 * 1024


class OutputPipe:
    """`write_end` goes to the run; what comes out is passed on as it comes."""

    def __init__(self, on_output: Callable[[bytes], None], user: int | None) -> None:
        self._read_end, self.write_end = os.pipe()
        if user is not None:
            os.fchown(self.write_end, user, user)  # so that the run can open /dev/stdout
        os.set_blocking(self._read_end, False)
        self._on_output = on_output
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._readable)

    def close_write_end(self) -> None:
        """The run has its own copy now."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def drain(self, seconds: float) -> None:
        """Wait for the end of the output, but not for a process that keeps the pipe open."""
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
        if data:
            self._on_output(data)
        else:
            self._finish()

    def _finish(self) -> None:
        if not self._ended.is_set():
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._ended.set()
