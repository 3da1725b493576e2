"""The server's end of a nursery's or a zygote's socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs

from devkit_api.execution.zygote import wire

_LARGEST = 2**53
_LONGEST_REASON = 500
# From the order to the run at work; a zygote that takes longer stands still.
_START_SECONDS = 60.0
_ENDS = ("code", "signal")


class Lost(Exception):
    """The process at the other end is gone."""


class Channel:
    """A socket that calls `on_message` for each message and `on_lost` once, when the peer is gone."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[wire.Message], None],
        on_lost: Callable[[], None],
        *,
        takes_fds: bool = False,
        only_first: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._takes_fds = takes_fds
        self._only_first = only_first
        self._decoder = wire.Decoder()
        self._loop = asyncio.get_running_loop()
        self._outgoing = bytearray()
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send without waiting; what the socket does not take at once follows. Raises `Lost`."""
        if self._sock is None:
            raise Lost
        frame = wire.encode(body, len(fds))
        if fds and self._outgoing:
            raise Lost  # what is not read yet would be cut in two
        try:
            sent = socket.send_fds(self._sock, [frame], list(fds)) if fds else 0
        except OSError:
            # Descriptors go with the first byte or not at all; a peer that does not even take one is stuck.
            raise Lost from None
        self._outgoing += frame[sent:]
        self._flush()

    def _flush(self) -> None:
        if self._sock is None:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self._sock.send(self._outgoing)]
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:
            self._outgoing.clear()  # the reader will see the end
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        assert self._sock is not None  # noqa: S101  the reader is removed with it
        try:
            data, fds = self._receive(self._sock)
            if not data:
                raise Lost
            self._takes_fds = self._takes_fds and not (self._only_first and fds)
            for message in self._decoder.feed(data, fds):
                self._on_message(message)
        except BlockingIOError:
            return
        except (OSError, Lost, wire.ProtocolError):
            self.close()
            self._on_lost()

    def _receive(self, sock: socket.socket) -> tuple[bytes, list[int]]:
        """Only from whom we expect descriptors: a module at its import could send us any number of them."""
        if not self._takes_fds:
            return sock.recv(wire.CHUNK), []
        data, fds, _, _ = socket.recv_fds(sock, wire.CHUNK, wire.MAX_FDS)
        return data, fds

    def close(self) -> None:
        """Close; the process at the other end takes it as the order to end."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self._decoder.close()


@attrs.frozen
class Started:
    """The run's leader: together they name a process for good."""

    pid: int
    start_time: int | None


@attrs.frozen
class Exit:
    """What `wait4` said of the run."""

    code: int | None
    signal: int | None
    cpu_seconds: float
    peak_memory_bytes: int
    problem: str | None = None  # why no run came of it, when that was not the module's doing


@attrs.frozen
class Ready:
    """What the zygote said after its import; `problem` is set when it is unfit."""

    problem: str | None = None
    seconds: float = 0.0
    memory_bytes: int = 0


class Zygote:
    """A zygote process, known by its pidfd. `run` may be called again once `wait` has answered."""

    def __init__(self, pidfd: int, sock: socket.socket, *, has_door: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        # The listening socket in the zygote's own network, when it has one.
        self.door: asyncio.Future[socket.socket] = loop.create_future()
        self._started: asyncio.Future[Started] | None = None
        self._exited: asyncio.Future[Exit] | None = None
        self._pidfd: int | None = pidfd
        self.is_lost = self._is_accepted = False
        self._channel = Channel(sock, self._on_message, self._on_lost, takes_fds=has_door, only_first=True)

    async def run(self, order: dict[str, Any], output: int) -> Started:
        """Fork a run that writes to `output`. Raises `Lost` when it surely has not begun: it may be run elsewhere."""
        loop = asyncio.get_running_loop()
        self._started, self._exited = loop.create_future(), loop.create_future()
        self._is_accepted = False
        self._channel.send({"op": "run", **order}, [output])
        try:
            return await asyncio.wait_for(asyncio.shield(self._started), _START_SECONDS)
        except (Lost, TimeoutError):
            self.kill()  # it is gone, or stands still
            if not self._is_accepted:
                raise Lost from None
            return Started(0, None)  # it may have begun; `wait` tells its end

    async def wait(self) -> Exit:
        """The run's end, when no process of it is left. Raises `Lost`."""
        assert self._exited is not None  # noqa: S101  run() precedes wait()
        return await asyncio.shield(self._exited)

    def signal(self, number: signal.Signals) -> None:
        """Signal the run's process group."""
        with suppress(Lost):
            self._channel.send({"op": "signal", "number": int(number)})

    def kill(self) -> None:
        """End the zygote itself, and with it what it runs; nobody else gets it."""
        self.is_lost = True
        if self._pidfd is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._channel.close()
        self._on_lost()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _on_message(self, message: wire.Message) -> None:
        """What a zygote says is checked like anything of a module: the module's import runs in it."""
        body = message.body
        match body.get("op"):
            case "door" if message.fds:
                _settle(self.door, socket.socket(fileno=message.fds[0]))
            case "ready":
                _settle(self.ready, Ready(None, _number(body, "seconds"), _whole(body, "memory_bytes")))
            case "unfit":
                _settle(self.ready, Ready(str(body.get("reason"))[:_LONGEST_REASON]))
            case "accepted" if self._started is not None:
                self._is_accepted = True
            case "started" if self._started is not None:
                start_time = None if body.get("start_time") is None else _whole(body, "start_time")
                _settle(self._started, Started(_whole(body, "pid"), start_time))
            case "exited" if self._exited is not None:
                code, number = (None if body.get(key) is None else _whole(body, key) for key in _ENDS)
                cpu, peak = _number(body, "cpu_seconds"), _whole(body, "peak_memory_bytes")
                problem = None if body.get("problem") is None else str(body["problem"])[:_LONGEST_REASON]
                _settle(self._exited, Exit(code, number, cpu, peak, problem))
            case other:
                raise wire.ProtocolError(f"unexpected message {other!r}")

    def _on_lost(self) -> None:
        self.is_lost = True
        for future in (self.ready, self.door, self._started, self._exited):
            if future is not None and not future.done():
                future.set_exception(Lost())
                future.exception()  # nobody may be waiting any more


def _whole(body: dict[str, Any], name: str) -> int:
    value: Any = body.get(name)
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise wire.ProtocolError(f"{name} is no such number")
    return value


def _number(body: dict[str, Any], name: str) -> float:
    value: Any = body.get(name)
    if type(value) not in (int, float) or not 0 <= value < _LARGEST:  # not a number compares as false
        raise wire.ProtocolError(f"{name} is no such number")
    return float(value)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
