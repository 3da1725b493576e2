"""Slow clients: guarantees that nobody holds a connection, or a handler, by sending almost nothing.

aiohttp waits for a body as long as its reader does, and for a first request as long as for any next one. One look a
second over all connections costs less than a timer per request. What it looks at are private parts of aiohttp's
protocol, as there are no others.
"""

from __future__ import annotations

import asyncio
import resource

import attrs
from aiohttp import web

from devkit_api.errors import RequestTooSlow

BYTES_PER_SECOND = 1024
_LOOK_EVERY = 1.0


@attrs.define
class _Upload:
    """The body one connection is sending: how much had arrived, and when that was looked at."""

    body: object
    received: int
    since: float


class ConnectionWatch:
    """Looks after the connections of one server. `seconds` is the patience with a client, `most` how many there may
    be, as far as this process may open so many.
    """

    def __init__(self, server: web.Server, seconds: float, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._seconds = seconds
        self._loop = loop
        self._opened: dict[web.RequestHandler, float] = {}
        self._uploads: dict[web.RequestHandler, _Upload] = {}
        self._most = min(most, max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._timer: asyncio.TimerHandle | None = None
        self._every = min(_LOOK_EVERY, seconds / 2)

    def start(self) -> None:
        """Look again and again until `stop`."""
        self._timer = self._loop.call_later(self._every, self._look_around)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def opened(self, connection: web.RequestHandler) -> None:
        """A new connection. When there are too many, the oldest one that has asked for nothing goes."""
        self._opened[connection] = self._loop.time()
        if len(self._opened) > self._most:
            silent = next((known for known in self._opened if not known._request_count), connection)
            _cut(silent)

    def closed(self, connection: web.RequestHandler) -> None:
        """It is gone."""
        self._opened.pop(connection, None)
        self._uploads.pop(connection, None)

    def _look_around(self) -> None:
        now = self._loop.time()
        for connection, since in list(self._opened.items()):
            if not connection._request_count:
                if now - since > self._seconds:
                    _cut(connection)
            else:
                self._look_at_body(connection, now)
        self.start()

    def _look_at_body(self, connection: web.RequestHandler, now: float) -> None:
        request = connection._current_request
        if request is None or request.content.is_eof() or connection._reading_paused or connection._buffer_paused:
            self._uploads.pop(connection, None)
            return
        body, received = request.content, request.content.total_bytes
        known = self._uploads.get(connection)
        if known is None or known.body is not body:
            self._uploads[connection] = _Upload(body, received, now)
        elif now - known.since >= self._seconds:
            if received - known.received < BYTES_PER_SECOND * self._seconds:
                # The handler answers 408; nothing more is read from this connection.
                body.set_exception(RequestTooSlow(seconds=self._seconds, headers={"Connection": "close"}))
                body.feed_eof()
            self._uploads[connection] = _Upload(body, received, now)


def _cut(connection: web.RequestHandler) -> None:
    if connection.transport is not None:
        connection.transport.abort()
