"""What a run prints, on its way to the devkit: in order, live, and never more than so much in memory."""

from __future__ import annotations

import asyncio
from collections import deque

from devkit_api.execution.cluster.frames import BUILD, CHUNK, OUTPUT, Broken, Channel, send

# Beyond this the process waits until the devkit has read some of it.
_MOST_BYTES = 1024**2


class Outbox:
    """`Observer` that sends. What comes while a message is on its way goes together in the next one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._has_more = asyncio.Event()
        self._room: asyncio.Future[None] | None = None
        self._is_closed = self._is_dropped = False
        self._sending = asyncio.create_task(self._send_all(), name="outbox")
        # Whoever listens finds out about a broken connection as well; nobody may wait for this task.
        self._sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def size(self) -> int:
        """Bytes that have not been sent."""
        return self._size

    def on_output(self, data: bytes) -> asyncio.Future[None] | None:
        """See `Observer`."""
        return self._add(OUTPUT, data)

    def on_build(self, line: bytes) -> None:
        """See `Observer`."""
        self._add(BUILD, line[:CHUNK])

    async def close(self) -> None:
        """Send what is left. Raises `Broken`."""
        self._is_closed = True
        self._has_more.set()
        await self._sending

    def drop(self) -> None:
        """Nobody listens any more: what comes from now on goes nowhere."""
        self._is_dropped = True
        self._sending.cancel()
        self._give_up()

    def _add(self, kind: bytes, data: bytes) -> asyncio.Future[None] | None:
        if self._is_dropped or self._sending.done():
            return None
        self._waiting.append((kind, data))
        self._size += len(data)
        self._has_more.set()
        if self._size < _MOST_BYTES:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    async def _send_all(self) -> None:
        try:
            while True:
                while self._waiting:
                    kind, data = self._next()
                    await send(self._channel, kind, data)
                    self._size -= len(data)
                    if self._size < _MOST_BYTES // 2:
                        self._make_room()
                if self._is_closed:
                    return
                self._has_more.clear()
                await self._has_more.wait()
        except Broken:
            self._give_up()
            raise

    def _next(self) -> tuple[bytes, bytes]:
        kind, data = self._waiting.popleft()
        parts, size = [data], len(data)
        while kind == OUTPUT and self._waiting and self._waiting[0][0] == kind and size < CHUNK:
            parts.append(self._waiting.popleft()[1])
            size += len(parts[-1])
        return kind, b"".join(parts)

    def _give_up(self) -> None:
        self._waiting.clear()
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
