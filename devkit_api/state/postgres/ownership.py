"""Which devkit the state in PostgreSQL belongs to: one at a time.

Two things decide it. An advisory lock, held by a session of its own for as long as the devkit lives, says who may take
over: the server gives it back when the session ends, however it ends. The epoch, a number in the database, says who
has: whoever takes over adds one, and every write names the epoch it belongs to, in its own transaction. So a devkit
that lost its session without noticing cannot write a thing once another has taken over.

A session that is lost alone (the server was restarted) is opened again. If nobody has taken over by then, all is as it
was; otherwise the ownership is lost for good, and `on_lost` hears why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import psycopg2
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from devkit_api.database.failures import first_line
from devkit_api.database.lifetime import reached
from devkit_api.database.target import Target
from devkit_api.settings import PREFIX, Problem, SettingsError
from devkit_api.state.postgres.schema import prepare
from devkit_api.state.postgres.session import Mark, NoState, Session, SessionLost
from devkit_api.state.store import OwnershipLost, StoreLocked

log = logging.getLogger(__name__)

ADVICE = (
    "Stop the other devkit, set DEVKIT_STANDBY=on to wait until it ends, or name another database with DEVKIT_DB_NAME"
)
_LOOK_SECONDS = 1.0
_ASK_SECONDS = 0.5
# As often as a busy server needs to see that a session has ended.
_ASKED = 4
# After the server was away: who had the state until then comes first.
_COURTESY_SECONDS = 5.0


class Ownership:
    """The ownership of the documents in one database. Lives on the event loop it was taken on."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: Session | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._holder = f"{socket.gethostname()}, process {os.getpid()}"
        self.mark: Mark | None = None
        self.lost: str | None = None
        self.on_lost: Callable[[str], None] = lambda _reason: None

    @property
    def epoch(self) -> int:
        """What writes are marked with. Raises `OwnershipLost`."""
        if self.lost is not None or self.mark is None:
            raise OwnershipLost(self.lost or "the state is not ours yet")
        return self.mark.epoch

    def view(self) -> dict[str, Any]:
        """For health."""
        return {"backend": "postgres", "epoch": self.mark.epoch if self.mark else None, "lost": self.lost}

    @property
    def is_taken(self) -> bool:
        """Whether it was taken, by `take` or by `stand_by`."""
        return self.mark is not None

    async def take(self) -> None:
        """Take it, unless it is ours already. Raises `StoreLocked`, or `SettingsError` without a server."""
        if self.is_taken:
            return
        session = await reached(self._target, self._open)
        async with self._closing_on_error(session):
            if not await self._locked(session):
                raise StoreLocked(self._told(await session.mark()), ADVICE)
            await self._begin(session)

    async def stand_by(self, on_waiting: Callable[[str], None]) -> None:
        """Take it as soon as nobody has it; `on_waiting` is told who does. Raises `SettingsError`."""
        session, courtesy = await reached(self._target, self._open), 0.0
        while True:
            try:
                async with self._closing_on_error(session):
                    await asyncio.sleep(courtesy)
                    while not await session.lock():
                        on_waiting(self._told(await session.mark()))
                        await asyncio.sleep(_ASK_SECONDS)
                    return await self._begin(session)
            except SessionLost as exc:
                log.warning("this devkit goes on standing by: %s", exc)
                session, courtesy = await self._open_again(), _COURTESY_SECONDS

    @asynccontextmanager
    async def _closing_on_error(self, session: Session) -> AsyncIterator[None]:
        """Keep the session only if all goes well. What is wrong with the schema becomes `SettingsError`."""
        try:
            yield
        except BaseException as exc:
            await session.unlock()
            await session.close()
            if isinstance(exc, psycopg2.Error | NoState):
                raise self._unusable(exc) from exc
            raise

    async def _locked(self, session: Session) -> bool:
        """Whether we get the lock; that of a devkit that was just killed is free in a moment."""
        for _ in range(_ASKED):
            if await session.lock():
                return True
            await asyncio.sleep(_ASK_SECONDS)
        return await session.lock()

    async def _begin(self, session: Session) -> None:
        """We have the lock: make the schema, say so to whoever had the state before us, and keep an eye on it."""
        try:
            await asyncio.to_thread(prepare, self._target)
        except psycopg2.OperationalError as exc:
            raise SessionLost(exc) from exc
        self.mark = await session.take_over(self._holder)
        self._session = session
        self.lost = None
        self._watcher = asyncio.create_task(self._watch(), name="state-ownership")
        log.info("the state in PostgreSQL is ours", extra={"epoch": self.mark.epoch})

    async def release(self) -> None:
        """Let others take over."""
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        if self._session is not None:
            await self._session.unlock()
            await self._session.close()
            self._session = self.mark = None

    def lose(self, reason: str) -> None:
        """It is another's from now on; said once."""
        if self.lost is None:
            self.lost = reason
            log.critical("the state is no longer ours: %s", reason)
            self.on_lost(reason)

    def compare(self, found: Mark | None) -> None:
        """Lose it when `found` is not our own mark."""
        ours = self.mark
        if ours is None or self.lost is not None:
            return
        if found is None or found.state_id != ours.state_id:
            self.lose(f"the database {self._target.name} no longer holds the state that was there")
        elif found.epoch != ours.epoch:
            self.lose(f"another devkit ({found.holder}) has taken over the state in the database {self._target.name}")

    async def _watch(self) -> None:
        try:
            while self.lost is None:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    assert self._session is not None  # noqa: S101  released only with this task
                    self.compare(await self._session.mark())
                except SessionLost:
                    await self._take_again()
        except psycopg2.Error as exc:
            self.lose(f"the database {self._target.name} no longer tells whose the state is ({first_line(exc)})")

    async def _take_again(self) -> None:
        """Our lock went with the session: the server was away, or the network."""
        log.warning("the session that holds the ownership of the state was lost; opening it again")
        began = monotonic()
        while self.lost is None:
            try:
                if self._session is None or self._session.is_closed:
                    self._session = await self._open_again()
                is_locked = await self._session.lock()
                self.compare(await self._session.mark())
                if is_locked and self.lost is None:
                    seconds = round(monotonic() - began, 1)
                    log.info("the ownership of the state is held again", extra={"seconds": seconds})
                    return
                # The server may not have noticed yet that our old session is gone.
                await asyncio.sleep(_ASK_SECONDS)
            except SessionLost:
                await asyncio.sleep(_ASK_SECONDS)

    async def _open(self) -> Session:
        return await Session.open(self._target)

    async def _open_again(self) -> Session:
        """Until there is a server again, however long that takes."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((psycopg2.Error, TimeoutError, OSError)),
            wait=wait_random_exponential(0.1, max=2),
        )
        return await retrying(self._open)

    def _unusable(self, exc: Exception) -> SettingsError:
        """The schema is there, and is not what we would have made."""
        reason = f"the schema devkit_state in the database {self._target.name} cannot be used ({first_line(exc)})"
        fix = (
            "name a database of the devkit's own, let its user own that schema, or restore a backup;"
            " devkit_state itself may be dropped only if no devkit keeps anything in it"
        )
        return SettingsError([Problem(f"{PREFIX}DB_NAME", reason, fix)])

    def _told(self, mark: Mark | None) -> str:
        holder = f" ({mark.holder})" if mark is not None and mark.holder else ""
        return f"another devkit{holder} owns the state in the database {self._target.name} of {self._target.host}"
