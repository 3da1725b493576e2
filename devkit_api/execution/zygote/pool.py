"""The pool: which zygotes there are, which are idle, and which have to go."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devkit_api.execution.environment import zygote_environment
from devkit_api.execution.isolation import (
    EXPLAINED,
    FIRST_USER,
    USERS,
    Isolation,
    IsolationMissing,
    Level,
    Surroundings,
    check_wanted,
    choose_level,
)
from devkit_api.execution.scratch import Scratch
from devkit_api.execution.sources import ServedSources
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote.handle import Lost
from devkit_api.execution.zygote.keeper import Nursery
from devkit_api.execution.zygote.lane import Doors, Kind, Lane, environment_of, identity, make_home

log = logging.getLogger(__name__)

# Each is two processes and, as root, a user: idle ones beyond this go, however little memory they take.
_MOST_LANES = 256


class ZygotePool:
    """Zygotes by kind. A lane belongs to one run from `take` or `hatch` to `release`."""

    def __init__(
        self,
        folder: Path,
        bundle_path: Callable[[str], Path],
        *,
        memory_bytes: int,
        import_seconds: float,
        isolation: str = "auto",
        around: Surroundings = Surroundings(),  # noqa: B008  frozen
    ) -> None:
        self._folder = folder
        self._bundle_path = bundle_path
        self._served = ServedSources(folder / "sources", bundle_path)
        self._memory_bytes = memory_bytes
        self._import_seconds = import_seconds
        self._wanted = isolation
        self._around = around
        self.isolation = Isolation(Level.PROCESS, folder.parent, around)
        self.doors: Doors | None = None
        self._nursery = Nursery(self._folder, contained=isolation != "process")
        self._starting = asyncio.Lock()
        self._idle: OrderedDict[Lane, None] = OrderedDict()  # least recently used first
        self._lanes: set[Lane] = set()
        self._unfit: dict[Kind, str] = {}
        self._count = 0
        # Another devkit of this machine begins elsewhere: what is counted or allowed per user is counted for each.
        self._first_user = zlib.crc32(bytes(folder)) % USERS
        self._closed = False
        self._opening: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """How many zygotes live."""
        return len(self._lanes)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Every lane, idle or not."""
        return tuple(self._lanes)

    def open(self) -> None:
        """Begin to start the nursery; the first run waits for what is left of it."""
        self._opening = asyncio.create_task(self._open(), name="nursery")

    async def _open(self) -> None:
        try:
            await self._ensure_nursery()
        except (Lost, OSError):
            log.exception("the nursery does not start; the first run tries again")
        except IsolationMissing as exc:
            log.error("no module will run: %s", exc)

    def bundle(self, digest: str) -> Path:
        """The registered source itself."""
        return self._bundle_path(digest)

    async def source(self, digest: str) -> Path:
        """The files a run may see. Raises `SourceChanged`, `Lost` or `OSError`."""
        await self._ensure_nursery()
        if self.isolation.level is not Level.PROCESS:
            return self._bundle_path(digest)  # other users cannot write to it
        return await self._served.ready(digest)

    def take(self, kind: Kind) -> Lane | None:
        """An idle zygote of this kind, or None."""
        for lane in reversed(self._idle):
            if lane.kind == kind and not self._is_stale(lane):
                del self._idle[lane]
                lane.served += 1
                return lane
        return None

    async def release(self, lane: Lane) -> None:
        """Give a lane back; one that no other run may have is forgotten."""
        if not await lane.is_usable() or self._closed:
            await self._drop(lane)
            return
        self._idle[lane] = None
        while self._idle and self._is_too_much():
            await self._drop(next(iter(self._idle)))

    def _is_too_much(self) -> bool:
        memory = sum(other.memory_bytes for other in self._lanes)
        return memory > self._memory_bytes or len(self._lanes) > _MOST_LANES

    async def close(self) -> None:
        """End every zygote and the nursery."""
        self._closed = True
        if self._opening is not None:
            await self._opening
        for lane in list(self._lanes):
            await self._drop(lane)
        await self._nursery.close()

    async def prewarm(self, kind: Kind) -> None:
        """Have an idle zygote of this kind before its first run. Raises as `hatch`."""
        if not any(lane.kind == kind for lane in self._lanes):
            await self.release(await self.hatch(kind))

    async def hatch(self, kind: Kind) -> Lane:
        """A new zygote of this kind. Raises `Lost` when none can be made."""
        await self._drop_outdated(kind)
        preimport = kind not in self._unfit and not kind.needs_fresh_interpreter
        lane = await self._try(kind, preimport=preimport)
        if lane is None and preimport:
            lane = await self._try(kind, preimport=False)
        if lane is None:
            raise Lost
        return lane

    async def _try(self, kind: Kind, *, preimport: bool) -> Lane | None:
        await self._ensure_nursery()
        source, door = await self.source(kind.digest), self._door(kind)
        folder, user = self._next_place()
        home = make_home(folder, user)
        scratch = Scratch(folder / "tmp", user) if self.isolation.has_namespaces else None
        order: dict[str, Any] = {
            "source": str(source),
            "entrypoint": kind.entrypoint,
            "environment": zygote_environment(home, dict(kind.environment)),
            "preimport": preimport,
            "door": door,
            "limits": self.isolation.import_limits(kind.memory_mb),
            **self.isolation.order(
                user, [source, *environment_of(kind)], folder,
                temporary=None if scratch is None else scratch.make(), memory_mb=kind.memory_mb,
            ),
        }  # fmt: skip
        try:
            zygote = await self._nursery.hatch(order)
        except BaseException:
            await Workdir(folder).remove()
            raise
        lane = Lane(kind, zygote, folder, Workdir(folder / "run", user), user, scratch=scratch)
        lane.bundle = identity(self._bundle_path(kind.digest))
        self._lanes.add(lane)
        try:
            if self.doors is not None and not kind.network:
                lane.close_door = await self.doors.open(await lane.zygote.door)
            problem = await self._until_ready(lane, preimport)
            if scratch is not None:
                await scratch.note()
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

    def _door(self, kind: Kind) -> tuple[str, int] | None:
        if kind.network:
            return None
        if self.doors is None or not self.isolation.has_namespaces:
            raise IsolationMissing("its manifest says it has no network, and this machine cannot take it away")
        return self.doors.host, self.doors.port

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
        lane.import_seconds = ready.seconds if preimport else None
        if ready.problem is None:
            log.debug("zygote ready", extra={"module_id": lane.kind.module_id, "seconds": ready.seconds})
        return ready.problem

    async def _ensure_nursery(self) -> None:
        async with self._starting:
            if not self._nursery.is_alive and not self._closed:
                await self._nursery.close()
                self._nursery = Nursery(self._folder, contained=self._wanted != "process")
                await self._nursery.start()
                level = choose_level(
                    wanted=self._wanted, namespaces=self._nursery.namespaces, state_dir=self._folder.parent
                )
                self.isolation = Isolation(level, self._folder.parent, self._around)
                self.isolation.close_state()
                log.info("runs are isolated", extra={"isolation": level.value, "means": EXPLAINED[level]})
            if not self._closed:
                check_wanted(self._wanted, self.isolation.level)

    def _next_place(self) -> tuple[Path, int | None]:
        """A folder and a user no living lane has."""
        taken = {lane.user for lane in self._lanes}
        if len(taken) >= USERS:
            raise Lost  # more runs at a time than there are users for them
        while True:
            self._count += 1
            user = FIRST_USER + (self._first_user + self._count) % USERS
            if user not in taken:
                return self._folder / str(self._count), user if self.isolation.has_users else None

    async def _drop_outdated(self, kind: Kind) -> None:
        """An edited module leaves zygotes of its former source behind; a reset, zygotes of bundles that are gone."""
        outdated = [lane for lane in self._idle if lane.kind.is_other_form_of(kind) or self._is_stale(lane)]
        for lane in outdated:
            del self._idle[lane]  # all at once: while one is being dropped, a run may take another
        for lane in outdated:
            await self._drop(lane)

    def _is_stale(self, lane: Lane) -> bool:
        return lane.zygote.is_lost or lane.bundle != identity(self._bundle_path(lane.kind.digest))

    async def _drop(self, lane: Lane) -> None:
        self._idle.pop(lane, None)
        self._lanes.discard(lane)
        lane.zygote.close()
        if lane.close_door is not None:
            try:
                await lane.close_door()
            except Exception:
                # The run is over: its end must not depend on this.
                log.exception("the door of a module without network could not be closed")
        await Workdir(lane.folder).remove()
