"""The server's hold on the nursery process."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from devkit_api.execution.environment import nursery_environment
from devkit_api.execution.zygote import launch, wire
from devkit_api.execution.zygote.handle import Channel, Lost, Zygote

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
# It forks, no more: one that takes longer than this stands still.
_ANSWER_SECONDS = 60.0
_CLOSE_SECONDS = 5.0


class Nursery:
    """The nursery process. `hatch` asks it for a zygote."""

    def __init__(self, lanes: Path, *, contained: bool = True) -> None:
        self._lanes = lanes
        self._contained = contained
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._hello: asyncio.Future[None] | None = None
        self._hatching: dict[int, asyncio.Future[int]] = {}
        self._count = 0
        self.namespaces = False

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked. One that is being ended cannot, though its process may still be there."""
        return self._channel is not None and self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process and wait until it has the SDK. Raises `Lost`."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._hello = asyncio.get_running_loop().create_future()
            self._channel = Channel(ours, self._on_message, self._on_lost, takes_fds=True)
            try:
                self._process = await self._execute(theirs.fileno())
            except BaseException:
                self._channel.close()
                raise
        try:
            await asyncio.wait_for(asyncio.shield(self._hello), _START_SECONDS)
        except (TimeoutError, Lost):
            await self.close()
            raise Lost from None

    async def _execute(self, socket_fd: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, launch.__file__, str(socket_fd), str(os.getpid()),
            str(self._lanes),  # a mark by which `orphans` knows this process and its forks
            "contained" if self._contained else "plain",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, pass_fds=[socket_fd],
            env=nursery_environment(), cwd="/", start_new_session=True,
        )  # fmt: skip

    async def hatch(self, order: dict[str, Any]) -> Zygote:
        """A new zygote; await its `ready`. Raises `Lost`."""
        if self._channel is None:
            raise Lost
        ours, theirs = socket.socketpair()
        self._count += 1
        hatched = self._hatching[self._count] = asyncio.get_running_loop().create_future()
        try:
            with theirs:
                self._channel.send({"op": "hatch", "id": self._count, **order}, [theirs.fileno()])
            async with asyncio.timeout(_ANSWER_SECONDS):
                return Zygote(await hatched, ours, has_door=order["door"] is not None)
        except TimeoutError:
            ours.close()
            log.error("the nursery does not answer; it is ended")
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            self._hang_up()
            raise Lost from None
        except BaseException:
            ours.close()
            raise

    async def close(self) -> None:
        """End it, and with it every zygote."""
        self._hang_up()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _CLOSE_SECONDS)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._on_lost()

    def _on_message(self, message: wire.Message) -> None:
        body = message.body
        if body["op"] == "hello" and self._hello is not None and not self._hello.done():
            self.namespaces = bool(body["namespaces"])
            self._hello.set_result(None)
        elif body["op"] == "hatched":
            hatched = self._hatching.pop(body["id"], None)
            if hatched is not None and not hatched.done():
                hatched.set_result(message.fds[0])
            else:
                os.close(message.fds[0])  # nobody waits any more; without a server's end the zygote ends itself
        elif body["op"] == "failed":
            log.error("a process for runs could not be made", extra={"reason": body["reason"]})
            hatched = self._hatching.pop(body["id"], None)
            if hatched is not None and not hatched.done():
                hatched.set_exception(Lost())

    def _on_lost(self) -> None:
        self._channel = None
        waiting: list[asyncio.Future[Any]] = [*self._hatching.values(), *([self._hello] if self._hello else [])]
        self._hatching.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(Lost())
                future.exception()
