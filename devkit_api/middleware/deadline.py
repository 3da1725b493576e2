"""Deadline: guarantees that a caller has an answer after a bounded time, whatever a handler waits for.

A read is stopped. A write goes on to its end behind the answer, as half a write is worse than a late one. Streams and
transfers have no deadline: `connections.py` and `SLOW_READER_SECONDS` bound them by their pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from devkit_api.errors import DeadlineExceeded
from devkit_api.routing import is_stream

log = logging.getLogger(__name__)

ANSWER_SECONDS: web.AppKey[float] = web.AppKey("answer_seconds", float)

_going_on: set[asyncio.Task[web.StreamResponse]] = set()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the handler answers. Raises `DeadlineExceeded`."""
    if is_stream(request):
        return await handler(request)
    seconds = request.app[ANSWER_SECONDS]
    if request.method == "GET":
        return await _read(request, handler, seconds)
    return await _write(request, handler, seconds)


async def _read(request: web.Request, handler: Handler, seconds: float) -> web.StreamResponse:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await handler(request)
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded(seconds=seconds, outcome="nothing was changed") from None
        raise


async def _write(request: web.Request, handler: Handler, seconds: float) -> web.StreamResponse:
    work = asyncio.ensure_future(handler(request))
    try:
        await asyncio.wait([work], timeout=seconds)
    except asyncio.CancelledError:
        work.cancel()
        raise
    if work.done():
        return work.result()
    _going_on.add(work)
    work.add_done_callback(_ended)
    raise DeadlineExceeded(seconds=seconds, outcome="it goes on, so look before you repeat it")


def _ended(work: asyncio.Task[web.StreamResponse]) -> None:
    _going_on.discard(work)
    if not work.cancelled() and work.exception() is not None:
        log.warning("a request failed after its deadline: %s", type(work.exception()).__name__)
