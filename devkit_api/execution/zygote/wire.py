"""Messages between the server, the nursery and the zygotes: length-framed JSON, with descriptors beside it.

A frame is a header (magic, version, number of descriptors, length) and one JSON object. Descriptors travel with the
first byte of their frame, so they arrive not later than it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

VERSION = 1
MAGIC = b"hlaz"
HEADER = struct.Struct("!4sBBI")
MAX_BODY = 4 * 1024 * 1024
MAX_FDS = 4
CHUNK = 64 * 1024


class ProtocolError(Exception):
    """The peer does not speak this protocol, or another version of it."""


class Message:
    """One received frame. Whoever takes `fds` closes them."""

    __slots__ = ("body", "fds")

    def __init__(self, body: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        self.body = body
        self.fds = fds


def encode(body: dict[str, Any], fd_count: int = 0) -> bytes:
    """The frame for `body`. Raises `ProtocolError` when it is too large."""
    data = json.dumps(body, separators=(",", ":")).encode()
    if len(data) > MAX_BODY or fd_count > MAX_FDS:
        raise ProtocolError("the message is too large")
    return HEADER.pack(MAGIC, VERSION, fd_count, len(data)) + data


class Decoder:
    """Turns what arrives, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Iterable[int] = ()) -> Iterator[Message]:
        """Complete messages so far. Raises `ProtocolError`."""
        self._buffer += data
        self._fds.extend(fds)
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if len(self._buffer) < HEADER.size:
            return None
        magic, version, fd_count, length = HEADER.unpack_from(self._buffer)
        if magic != MAGIC or version != VERSION:
            raise ProtocolError("the peer speaks another protocol")
        if length > MAX_BODY or fd_count > MAX_FDS:
            raise ProtocolError("the message is too large")
        if len(self._buffer) < HEADER.size + length:
            return None
        if len(self._fds) < fd_count:
            raise ProtocolError("descriptors are missing")
        data = bytes(self._buffer[HEADER.size : HEADER.size + length])
        del self._buffer[: HEADER.size + length]
        return Message(_parse(data), tuple(self._fds.popleft() for _ in range(fd_count)))

    def close(self) -> None:
        """Close descriptors nobody took."""
        while self._fds:
            os.close(self._fds.popleft())


def _parse(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        raise ProtocolError("the message is not JSON") from None
    if not isinstance(body, dict):
        raise ProtocolError("the message is not an object")
    return body


class Connection:
    """The blocking end, for nursery and zygote."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = Decoder()
        self._ready: deque[Message] = deque()

    def fileno(self) -> int:
        """For `poll`."""
        return self._sock.fileno()

    def send(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message. Raises `OSError` when the peer is gone."""
        frame = encode(body, len(fds))
        sent = socket.send_fds(self._sock, [frame], list(fds)) if fds else 0
        # `sendall` makes a call even for nothing, which fails when the peer has taken the message and closed by then.
        if sent < len(frame):
            self._sock.sendall(frame[sent:])

    @property
    def has_message(self) -> bool:
        """Whether `receive` answers without reading."""
        return bool(self._ready)

    def receive(self) -> Message | None:
        """The next message, or None when the peer is gone. Raises `ProtocolError`."""
        while not self._ready:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, CHUNK, MAX_FDS)
            except ConnectionResetError:  # it was killed with something of ours unread
                data, fds = b"", []
            if not data:
                self._decoder.close()
                return None
            self._ready.extend(self._decoder.feed(data, fds))
        return self._ready.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor that was not taken."""
        self._decoder.close()
        self._sock.close()
