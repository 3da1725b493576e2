"""Deadline: guarantees that a caller has an answer after a bounded time, whatever a handler waits for.

A read is stopped. A write goes on to its end behind the answer, as half a write is worse than a late one. Streams and
transfers have no deadline: `connections.py` and `SLOW_READER_SECONDS` bound them by their pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiohttp import web

from devkit_api.errors import DeadlineExceeded
from devkit_api.routing import Endpoint

log = logging.getLogger(__name__)

ANSWER_SECONDS: web.AppKey[float] = web.AppKey("answer_seconds", float)

# The write that goes on behind its answer.
LATE: web.RequestKey[asyncio.Task[web.StreamResponse]] = web.RequestKey("late", asyncio.Task)

_going_on: set[asyncio.Task[web.StreamResponse]] = set()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Reads:
    """The reads under way. One timer looks at all of them: a timer for each would cost more than many a handler."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], float] = {}
        self._stopped: set[asyncio.Task[Any]] = set()
        self._is_watched = False

    def begin(self, seconds: float) -> asyncio.Task[Any]:
        """Watch the task of a read; `end` must follow."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  every request has one
        self._since[task] = monotonic()
        if not self._is_watched:
            self._is_watched = True
            asyncio.get_running_loop().call_later(seconds / 4, self._look, seconds)
        return task

    def was_stopped(self, task: asyncio.Task[Any]) -> bool:
        """Whether a cancellation of the task was ours alone."""
        return task in self._stopped and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        """The read has ended."""
        del self._since[task]
        self._stopped.discard(task)

    def _look(self, seconds: float) -> None:
        latest = monotonic() - seconds
        for task, since in self._since.items():
            if since <= latest and task not in self._stopped:
                self._stopped.add(task)
                task.cancel()
        self._is_watched = bool(self._since)
        if self._is_watched:
            asyncio.get_running_loop().call_later(seconds / 4, self._look, seconds)


READS: web.AppKey[Reads] = web.AppKey("reads", Reads)


async def answer(
    request: web.Request, app: web.Application, endpoint: Endpoint, handler: Handler
) -> web.StreamResponse:
    """What the handler answers. Raises `DeadlineExceeded`."""
    if endpoint.stream:
        return await handler(request)
    seconds = app[ANSWER_SECONDS]
    if request.method != "GET":
        return await _write(request, handler, seconds)
    reads = app[READS]
    task = reads.begin(seconds)
    try:
        return await handler(request)
    except asyncio.CancelledError:
        if reads.was_stopped(task):
            raise DeadlineExceeded(seconds=seconds, outcome="nothing was changed") from None
        raise
    finally:
        reads.end(task)


async def _write(request: web.Request, handler: Handler, seconds: float) -> web.StreamResponse:
    work = asyncio.ensure_future(handler(request))
    try:
        await asyncio.wait([work], timeout=seconds)
    except asyncio.CancelledError:
        work.cancel()
        raise
    if work.done():
        return work.result()
    request[LATE] = work
    _going_on.add(work)
    work.add_done_callback(_ended)
    raise DeadlineExceeded(seconds=seconds, outcome="it goes on, so look before you repeat it")


def _ended(work: asyncio.Task[web.StreamResponse]) -> None:
    _going_on.discard(work)
    if not work.cancelled() and work.exception() is not None:
        log.warning("a request failed after its deadline: %s", type(work.exception()).__name__)
