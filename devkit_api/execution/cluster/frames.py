"""What devkit and worker say to each other: JSON objects with an `op` as text, and bytes with their kind in front.

worker  `hello` {version, worker} · `want-source` · `begun` · output and build bytes · `outcome` {…} · file bytes
devkit  `order` {spec, engine} · `file` {name, size} and source bytes · `source-end` · `stop` {reason} · `taken`

Both sides are the same version (`hello` is checked), so nothing here has to understand an older one.
"""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import WSMessage, WSMsgType

from devkit_api import jsonio

OUTPUT, BUILD, FILE, SOURCE = b"o", b"b", b"f", b"s"
CHUNK = 64 * 1024
# A side that is alive answers a ping; one whose machine is gone does not, and nothing else would tell.
HEARTBEAT_SECONDS = 20.0
TICKET_HEADER = "X-Devkit-Ticket"
PATH = "/v1/cluster/attach"


class Broken(Exception):
    """The connection is gone, or what came over it makes no sense."""


class Channel(Protocol):
    """A WebSocket, of either side."""

    async def send_str(self, data: str) -> None:
        """Send text."""

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes; waits while the other side does not read."""

    async def receive(self) -> WSMessage:
        """The next message."""

    async def close(self) -> Any:
        """Close."""


async def say(channel: Channel, op: str, **body: Any) -> None:
    """Send a message. Raises `Broken`."""
    try:
        await channel.send_str(jsonio.dumps({"op": op, **body}).decode())
    except (ConnectionError, RuntimeError) as exc:
        raise Broken("the connection was closed") from exc


async def send(channel: Channel, kind: bytes, data: bytes) -> None:
    """Send bytes of a kind. Raises `Broken`."""
    try:
        await channel.send_bytes(kind + data)
    except (ConnectionError, RuntimeError) as exc:
        raise Broken("the connection was closed") from exc


async def listen(channel: Channel) -> dict[str, Any] | bytes:
    """The next message, or bytes with their kind in front. Raises `Broken`."""
    message = await channel.receive()
    if message.type is WSMsgType.BINARY and message.data:
        return bytes(message.data)
    if message.type is not WSMsgType.TEXT:
        raise Broken("the connection was closed")
    try:
        body = jsonio.loads_trusted(message.data.encode())
    except ValueError:
        raise Broken("it said what is not JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("op"), str):
        raise Broken("it said what is no message")
    return body


async def expect(channel: Channel, op: str) -> dict[str, Any]:
    """The next message, which has to be this one. Raises `Broken`."""
    said = await listen(channel)
    if isinstance(said, bytes) or said["op"] != op:
        raise Broken(f"it did not say {op!r}")
    return said
