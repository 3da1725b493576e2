"""Runs in memory and in the store: the only place where a run's state is written.

Unfinished runs are held whole; of finished ones an index entry, and the document when it is asked for. Every change
is durable before it is visible: the store first, then memory, then whoever waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from devkit_api.errors import RunNotFound
from devkit_api.ids import RUN_ID
from devkit_api.locks import KeyedLocks
from devkit_api.runs.models import IllegalMove, Run, RunStatus, move
from devkit_api.security.principals import Principal
from devkit_api.state import DocumentStore

log = logging.getLogger(__name__)

COLLECTION = "runs"
_CACHED = 256


@attrs.frozen
class RunHead:
    """What the index keeps of a run."""

    run_id: str
    module_id: str
    status: RunStatus
    finished_at: str | None
    source_digest: str | None
    user_id: str
    organization_id: str


def _head(run: Run) -> RunHead:
    return RunHead(
        run.run_id, run.module_id, run.status, run.finished_at, run.source_digest, run.user_id, run.organization_id
    )


class RunRepository:
    """All runs; `listen` for changes."""

    def __init__(self, store: DocumentStore, max_finished: int) -> None:
        self._store = store
        self._max_finished = max_finished
        self._heads: dict[str, RunHead] = {}
        self._live: dict[str, Run] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._cache: OrderedDict[str, Run] = OrderedDict()
        self._creating: dict[str, asyncio.Future[Run]] = {}
        self._locks = KeyedLocks()
        self._listeners: list[Callable[[Run], None]] = []

    async def load(self) -> None:
        """Index what is stored; a document that is not a run is skipped and logged."""
        finished = []
        async for key, document in self._store.scan(COLLECTION):
            try:
                run = Run.from_document(document)
                if run.run_id != key:
                    raise ValueError("a copy under another name")
            except (KeyError, TypeError, ValueError):
                log.error("a stored run cannot be read and is left out", extra={"document": key})
                continue
            self._heads[run.run_id] = _head(run)
            if run.is_terminal:
                finished.append((run.finished_at or "", run.run_id))
            else:
                self._live[run.run_id] = run
        self._heads = dict(sorted(self._heads.items()))  # ids sort by creation time
        self._finished = OrderedDict.fromkeys(run_id for _, run_id in sorted(finished))

    def listen(self, listener: Callable[[Run], None]) -> None:
        """Call `listener` with each new state, after it is durable."""
        self._listeners.append(listener)

    def live(self, run_id: str) -> Run | None:
        """An unfinished run, or None."""
        return self._live.get(run_id)

    def unfinished(self, module_id: str | None = None) -> list[Run]:
        """Unfinished runs, oldest first."""
        runs = (run for run in self._live.values() if module_id is None or run.module_id == module_id)
        return sorted(runs, key=lambda run: run.run_id)

    def head(self, run_id: str) -> RunHead | None:
        """The index entry, or None."""
        return self._heads.get(run_id)

    def heads(self, *, newest_first: bool) -> Iterator[RunHead]:
        """Index entries in order of creation."""
        return reversed(self._heads.values()) if newest_first else iter(self._heads.values())

    @property
    def ids(self) -> set[str]:
        """Ids of every run."""
        return set(self._heads)

    @property
    def bundle_digests(self) -> set[str]:
        """Digests of the bundles that runs were started with."""
        return {head.source_digest for head in self._heads.values() if head.source_digest}

    def counts(self) -> dict[str, int]:
        """How many runs there are per state."""
        counts = dict.fromkeys((status.value for status in RunStatus), 0)
        for run in self._live.values():
            counts[run.status.value] += 1
        for run_id in self._finished:
            counts[self._heads[run_id].status.value] += 1
        return counts

    async def get(self, run_id: str) -> Run | None:
        """A run, whole."""
        run = self._live.get(run_id) or self._cache.get(run_id)
        if run is not None or run_id not in self._heads:
            return run
        document = await self._store.get(COLLECTION, run_id)
        if document is None or run_id not in self._heads:  # it may have been removed while the disk was read
            return None
        run = Run.from_document(document)
        self._remember_finished(run)
        return run

    async def find(self, run_id: str, viewer: Principal | None = None) -> Run:
        """A run. Raises `RunNotFound`, also when `viewer` may not see it: that it exists is not theirs to know."""
        run = await self.get(run_id) if RUN_ID.fullmatch(run_id) else None
        if run is None or (viewer is not None and not viewer.may_see(run.user_id, run.organization_id)):
            raise RunNotFound(run_id=run_id[:130])
        return run

    async def create(self, run: Run) -> tuple[Run, bool]:
        """Store a new run durably. A run with this id that exists already is returned instead, with False."""
        existing = await self.get(run.run_id)
        if existing is not None:
            return existing, False
        pending = self._creating.get(run.run_id)
        if pending is not None:
            return await asyncio.shield(pending), False
        pending = self._creating[run.run_id] = asyncio.get_running_loop().create_future()
        try:
            await self._store.put(COLLECTION, run.run_id, run.to_document())
        except BaseException as exc:
            pending.set_exception(exc)
            pending.exception()  # whoever else waits gets it; nobody waiting is fine
            raise
        finally:
            self._creating.pop(run.run_id, None)
        self._publish(run)
        pending.set_result(run)
        return run, True

    async def transition(self, run_id: str, to: RunStatus, *, of: RunStatus | None = None, **changes: Any) -> Run:
        """Move a run, durably, and tell the listeners. Raises `IllegalMove`, or `StateError` with nothing changed.

        With `of`, the move is made only from that state: a caller who acts on what it saw a moment ago says so.
        """
        if run_id not in self._live:
            raise IllegalMove(f"{run_id} has ended")
        async with self._locks.of(run_id):
            run = self._live.get(run_id)
            if run is None:
                raise IllegalMove(f"{run_id} has ended")
            if of is not None and run.status is not of:
                raise IllegalMove(f"{run_id} is {run.status} by now")
            moved = move(run, to, **changes)
            await self._store.put(COLLECTION, run_id, moved.to_document())
            # Progress may have come in while the disk was busy.
            latest = self._live.get(run_id, moved)
            self._publish(attrs.evolve(moved, progress=latest.progress, heartbeat_at=latest.heartbeat_at))
        return moved

    def touch(self, run_id: str, **changes: Any) -> Run | None:
        """Change what need not survive a crash (progress, heartbeat); it is stored with the next transition."""
        run = self._live.get(run_id)
        if run is None:
            return None
        touched = self._live[run_id] = attrs.evolve(run, **changes)
        for listener in self._listeners:
            listener(touched)
        return touched

    async def change(self, run_id: str, **changes: Any) -> Run | None:
        """Change an unfinished run durably, its state aside; None when it has ended. Raises `StateError`."""
        async with self._locks.of(run_id):
            run = self._live.get(run_id)
            if run is None:
                return None
            changed = attrs.evolve(run, **changes)
            await self._store.put(COLLECTION, run_id, changed.to_document())
            latest = self._live.get(run_id, run)
            self._publish(attrs.evolve(latest, **changes))
        return changed

    def overdue(self) -> list[str]:
        """Finished runs beyond the number kept, oldest first."""
        excess = len(self._finished) - self._max_finished
        return [run_id for run_id, _ in zip(self._finished, range(excess), strict=False)] if excess > 0 else []

    async def remove(self, run_id: str) -> None:
        """Delete a finished run's document. An unfinished run is never removed."""
        if run_id not in self._finished:
            return
        await self._store.delete(COLLECTION, run_id)
        for index in (self._finished, self._cache, self._heads):
            index.pop(run_id, None)

    async def clear(self) -> None:
        """Remove every run. The caller has ended them."""
        await self._store.clear(COLLECTION)
        for index in (self._heads, self._live, self._finished, self._cache):
            index.clear()

    def _publish(self, run: Run) -> None:
        self._heads[run.run_id] = _head(run)
        if run.is_terminal:
            self._live.pop(run.run_id, None)
            self._finished[run.run_id] = None
            self._remember_finished(run)
        else:
            self._live[run.run_id] = run
        for listener in self._listeners:
            listener(run)

    def _remember_finished(self, run: Run) -> None:
        self._cache[run.run_id] = run
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
