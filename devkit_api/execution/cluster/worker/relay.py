"""The way to the devkit for modules without network: what comes to the socket in theirs goes to its address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

_CHUNK = 64 * 1024


async def open_relay(door: socket.socket, host: str, port: int) -> Callable[[], Awaitable[None]]:
    """Serve `door` until what this returns is called. Bytes pass as they are: TLS is the module's own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
        finally:
            for each in (writer, there[1]):
                each.transport.abort()

    server = await asyncio.start_server(serve, sock=door)

    async def stop() -> None:
        server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)

    return stop


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
