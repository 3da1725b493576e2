"""The devkit's side of the talk with a worker that has a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import attrs
from aiofiles.os import wrap

from devkit_api import __version__
from devkit_api.execution.cluster import frames
from devkit_api.execution.cluster.codec import EngineSettings, decode_outcome, encode_spec
from devkit_api.execution.cluster.frames import Broken, Channel, expect, listen, say, send
from devkit_api.execution.output import first_lines
from devkit_api.execution.protocol import Observer, Outcome, RunSpec
from devkit_api.modules.source_files import SourceFile, folder_files

# Read from the disk at a time, and sent as one message.
_PIECE = 256 * 1024
_HELLO_SECONDS = 30.0


class Unfit(Exception):
    """The worker cannot execute runs of this devkit; the text says why."""


@attrs.define
class Conversation:
    """Gives the order, hands on what the run prints, takes in how it ended. `begun` is when the worker had it all."""

    spec: RunSpec
    observer: Observer
    engine: EngineSettings
    bundle_path: Callable[[str], Path]
    begun: float | None = None
    _is_source_sent: bool = attrs.field(default=False, init=False)

    async def hold(self, channel: Channel) -> Outcome:
        """Until the worker has told the outcome. Raises `Broken` or `Unfit`."""
        await self._greet(channel)
        await say(channel, "order", spec=encode_spec(self.spec), engine=attrs.asdict(self.engine))
        while True:
            said = await listen(channel)
            if isinstance(said, bytes):
                await self._hand_on(said)
                continue
            match said["op"]:
                case "want-source" if not self._is_source_sent and self.begun is None:
                    self._is_source_sent = True
                    await self.send_source(channel)
                case "begun" if self.begun is None:
                    self.begun = perf_counter()
                case "outcome":
                    return await self._take(channel, said)
                case other:
                    raise Broken(f"unexpected message {other[:50]!r}")

    async def _greet(self, channel: Channel) -> None:
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                hello = await expect(channel, "hello")
        except TimeoutError:
            raise Broken("it said nothing") from None
        if hello.get("version") != __version__:
            worker, theirs = str(hello.get("worker"))[:200], str(hello.get("version"))[:50]
            raise Unfit(f"the worker {worker} has hla-compass-devkit {theirs}, and this one is {__version__}")

    async def _hand_on(self, said: bytes) -> None:
        kind, data = said[:1], said[1:]
        if kind == frames.BUILD:
            self.observer.on_build(data)
            return
        if kind != frames.OUTPUT:
            raise Broken("it sent bytes of a kind we do not know")
        while data:
            piece = first_lines(data)
            data = data[len(piece) :]
            taken = self.observer.on_output(piece)
            if taken is not None:
                await taken
            elif data:
                await asyncio.sleep(0)

    async def send_source(self, channel: Channel) -> None:
        """File by file. It is checked by its digest where it arrives."""
        files = await asyncio.to_thread(lambda: list(folder_files(self.bundle_path(self.spec.source_digest))))
        for file in files:
            await say(channel, "file", name=str(file.name), size=file.size)
            left = file.size
            while left > 0:
                piece = await _read(file, file.size - left)
                await send(channel, frames.SOURCE, piece)
                left -= len(piece)
        await say(channel, "source-end")

    async def _take(self, channel: Channel, said: dict[str, object]) -> Outcome:
        outcome, size = decode_outcome(said)
        if size is not None and size > self.spec.limits.output_bytes:
            raise Broken("its output is larger than it may be")
        output = None if size is None else await _output(channel, size)
        with suppress(Broken):  # the run is over, whether the worker hears of it or not
            await say(channel, "taken")
        return attrs.evolve(outcome, output=output)


async def _output(channel: Channel, size: int) -> bytes:
    parts, left = [], size
    while left > 0:
        said = await listen(channel)
        # Pieces of nothing would never make it whole.
        if not isinstance(said, bytes) or said[:1] != frames.FILE or not 0 < len(said) - 1 <= left:
            raise Broken("its output did not come whole")
        parts.append(said[1:])
        left -= len(said) - 1
    return b"".join(parts)


@wrap
def _read(file: SourceFile, position: int) -> bytes:
    with file.open() as source:
        source.seek(position)
        data = source.read(_PIECE)
    if not data:
        raise Broken("a file of the source is shorter than it was")
    return data
