"""The pool: which zygotes there are, which are idle, and which have to go."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from devkit_api.execution.environment import needs_fresh_interpreter, nursery_environment, zygote_environment
from devkit_api.execution.protocol import RunSpec
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote import launch
from devkit_api.execution.zygote.handle import Channel, Lost, Zygote

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_CLOSE_SECONDS = 5.0


@attrs.frozen
class Kind:
    """What a zygote is for: two runs may share one only if all of this is the same."""

    module_id: str
    version: str
    digest: str
    entrypoint: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, spec: RunSpec) -> Kind:
        """The kind of zygote a run needs."""
        environment = tuple(sorted(spec.environment.items()))
        return cls(spec.module_id, spec.module_version, spec.source_digest, spec.entrypoint, environment)


@attrs.define(eq=False)
class Lane:
    """A zygote and what the pool keeps beside it."""

    kind: Kind
    zygote: Zygote
    folder: Path
    workdir: Workdir
    memory_bytes: int = 0


class Nursery:
    """The nursery process. `hatch` asks it for a zygote."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._hello: asyncio.Future[None] | None = None
        self._hatching: dict[int, asyncio.Future[int]] = {}
        self._count = 0

    @property
    def pid(self) -> int | None:
        """Its pid while it lives."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process and wait until it has the SDK. Raises `Lost`."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._hello = asyncio.get_running_loop().create_future()
            self._channel = Channel(ours, self._on_message, self._on_lost)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, launch.__file__, str(theirs.fileno()), str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env=nursery_environment(), cwd="/", start_new_session=True,
            )  # fmt: skip
        try:
            await asyncio.wait_for(asyncio.shield(self._hello), _START_SECONDS)
        except TimeoutError:
            await self.close()
            raise Lost from None

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
            return Zygote(await hatched, ours)
        except BaseException:
            ours.close()
            raise

    async def close(self) -> None:
        """End it, and with it every zygote."""
        if self._channel is not None:
            self._channel.close()
            self._on_lost()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _CLOSE_SECONDS)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    def _on_message(self, body: dict[str, Any]) -> None:
        if body["op"] == "hello" and self._hello is not None and not self._hello.done():
            self._hello.set_result(None)
        elif body["op"] == "hatched":
            hatched = self._hatching.pop(body["id"], None)
            if hatched is not None and not hatched.done():
                hatched.set_result(body["pid"])

    def _on_lost(self) -> None:
        self._channel = None
        waiting: list[asyncio.Future[Any]] = [*self._hatching.values(), *([self._hello] if self._hello else [])]
        self._hatching.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(Lost())
                future.exception()


class ZygotePool:
    """Zygotes by kind. A lane belongs to one run from `take` or `hatch` to `release`."""

    def __init__(
        self, folder: Path, bundle_path: Callable[[str], Path], *, memory_bytes: int, import_seconds: float
    ) -> None:
        self._folder = folder
        self._bundle_path = bundle_path
        self._memory_bytes = memory_bytes
        self._import_seconds = import_seconds
        self._nursery = Nursery()
        self._starting = asyncio.Lock()
        self._idle: OrderedDict[Lane, None] = OrderedDict()  # least recently used first
        self._lanes: set[Lane] = set()
        self._unfit: dict[Kind, str] = {}
        self._count = 0
        self._closed = False
        self._opening: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """How many zygotes live."""
        return len(self._lanes)

    def open(self) -> None:
        """Begin to start the nursery; the first run waits for what is left of it."""
        self._opening = asyncio.create_task(self._open(), name="nursery")

    async def _open(self) -> None:
        try:
            await self._ensure_nursery()
        except (Lost, OSError):
            log.exception("the nursery does not start; the first run tries again")

    def take(self, spec: RunSpec) -> Lane | None:
        """An idle zygote for the run, or None."""
        kind = Kind.of(spec)
        for lane in reversed(self._idle):
            if lane.kind == kind and not lane.zygote.is_lost:
                del self._idle[lane]
                return lane
        return None

    async def release(self, lane: Lane) -> None:
        """Give a lane back; a lost one is forgotten."""
        if lane.zygote.is_lost or self._closed:
            await self._drop(lane)
            return
        self._idle[lane] = None
        while self._idle and sum(other.memory_bytes for other in self._lanes) > self._memory_bytes:
            await self._drop(next(iter(self._idle)))

    async def close(self) -> None:
        """End every zygote and the nursery."""
        self._closed = True
        if self._opening is not None:
            await self._opening
        for lane in list(self._lanes):
            await self._drop(lane)
        await self._nursery.close()

    async def hatch(self, spec: RunSpec) -> Lane:
        """A new zygote for the run. Raises `Lost` when none can be made."""
        kind = Kind.of(spec)
        await self._drop_outdated(kind)
        preimport = kind not in self._unfit and needs_fresh_interpreter(spec.environment) is None
        lane = await self._try(kind, preimport=preimport)
        if lane is None and preimport:
            lane = await self._try(kind, preimport=False)
        if lane is None:
            raise Lost
        return lane

    async def _try(self, kind: Kind, *, preimport: bool) -> Lane | None:
        await self._ensure_nursery()
        self._count += 1
        folder = self._folder / str(self._count)
        home = folder / "zygote"
        home.mkdir(mode=0o700, parents=True)
        source = self._bundle_path(kind.digest)
        order: dict[str, Any] = {
            "source": str(source),
            "entrypoint": kind.entrypoint,
            "environment": zygote_environment(home, dict(kind.environment)),
            "preimport": preimport,
        }
        lane = Lane(kind, await self._nursery.hatch(order), folder, Workdir(folder / "run"))
        self._lanes.add(lane)
        try:
            problem = await self._until_ready(lane, preimport)
        except BaseException:
            lane.zygote.kill()
            await self._drop(lane)
            raise
        if problem is None:
            return lane
        await self._drop(lane)
        if preimport:
            self._unfit[kind] = problem
            log.warning(
                "module is not kept warm: each run imports it anew",
                extra={"module_id": kind.module_id, "version": kind.version, "reason": problem},
            )
        return None

    async def _until_ready(self, lane: Lane, preimport: bool) -> str | None:
        """Why the zygote cannot be used, or None."""
        try:
            ready = await asyncio.wait_for(asyncio.shield(lane.zygote.ready), self._import_seconds)
        except TimeoutError:
            lane.zygote.kill()
            return f"its import takes longer than {self._import_seconds:g} s"
        except Lost:
            return "its import ends the process"
        lane.memory_bytes = ready.memory_bytes
        if ready.problem is None:
            log.debug("zygote ready", extra={"module_id": lane.kind.module_id, "seconds": ready.seconds})
        return ready.problem

    async def _ensure_nursery(self) -> None:
        async with self._starting:
            if self._nursery.pid is None and not self._closed:
                self._nursery = Nursery()
                await self._nursery.start()

    async def _drop_outdated(self, kind: Kind) -> None:
        """An edited module leaves zygotes of its former source behind."""
        for lane in list(self._idle):
            same = lane.kind.module_id == kind.module_id and lane.kind.version == kind.version
            if same and lane.kind != kind:
                await self._drop(lane)

    async def _drop(self, lane: Lane) -> None:
        self._idle.pop(lane, None)
        self._lanes.discard(lane)
        lane.zygote.close()
        await Workdir(lane.folder).remove()
