"""A connection that is read all the time, whatever else its side is doing.

A WebSocket answers pings only while somebody waits for its next message, and before aiohttp 3.14 hears only then that
the other side is there. A source on its way, or a wait for another run's, can take longer than it waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMessage, WSMsgType

from devkit_api.execution.cluster.frames import Channel

# Read ahead; then the other side has to wait.
_MOST = 8
_CONTENT = (WSMsgType.TEXT, WSMsgType.BINARY)


class _Attended:
    """`Channel` around another one. What ends it is what `receive` says from then on."""

    def __init__(self, channel: Channel) -> None:
        self.send_str, self.send_bytes = channel.send_str, channel.send_bytes
        self._channel = channel
        self._arrived: asyncio.Queue[WSMessage] = asyncio.Queue()
        self._room = asyncio.Event()
        self._reading = asyncio.create_task(self._read(), name="attended")

    async def receive(self) -> WSMessage:
        """See `Channel`."""
        message = await self._arrived.get()
        self._room.set()
        if message.type not in _CONTENT:
            self._arrived.put_nowait(message)
        return message

    async def close(self) -> Any:
        """See `Channel`."""
        await self.leave()
        await self._channel.close()

    async def leave(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        _ = self._reading.cancelled() or self._reading.exception()

    async def _read(self) -> None:
        last = WSMessage(WSMsgType.CLOSED, None, None)
        try:
            while (message := await self._channel.receive()).type in _CONTENT:
                self._arrived.put_nowait(message)
                while self._arrived.qsize() >= _MOST:
                    self._room.clear()
                    await self._room.wait()
            last = message
        finally:
            self._arrived.put_nowait(last)


@asynccontextmanager
async def attended(channel: Channel) -> AsyncIterator[Channel]:
    """`channel`, read all the time until the end of this."""
    reader = _Attended(channel)
    try:
        yield reader
    finally:
        await reader.leave()
