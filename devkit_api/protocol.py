"""The HTTP protocol of the server: what never became a request is answered in the one error shape as well.

aiohttp answers a broken request line, an overlong header or a bad encoding itself, before any middleware, with its
own text. `Runner` serves an application with a protocol that answers these like every other error.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from aiohttp import web

from devkit_api.connections import ConnectionWatch
from devkit_api.errors import BadRequest, DevkitError, InternalError
from devkit_api.logs import correlation_id
from devkit_api.middleware import errors, headers

log = logging.getLogger(__name__)


class _Protocol(web.RequestHandler):
    """aiohttp's protocol with the devkit's error body."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no handler saw; the parser's own words stay in the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        correlation_id.set(os.urandom(16).hex())
        error: DevkitError
        if status < 500:
            error = BadRequest(reason="it is not well-formed HTTP, or a line of it is too long")
            log.info("malformed request", extra={"reason": type(exc).__name__})
        else:
            error = InternalError()
            log.error("request failed outside the application", exc_info=exc)
        made = errors.answer(error)
        answer = _Answer(body=made.body, status=made.status, headers=made.headers)
        headers.complete(answer)
        answer.force_close()
        return answer


class _Answer(web.Response):
    """No signal handler sees this answer, and aiohttp would name itself in it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)


class _Server(web.Server):
    """Makes a `_Protocol` per connection, and has an eye on all of them."""

    watch: ConnectionWatch

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A connection came."""
        super().connection_made(handler, transport)
        self.watch.opened(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection went."""
        super().connection_lost(handler, exc)
        self.watch.closed(handler)

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """`web.AppRunner` with the devkit's protocol. `client_timeout`: seconds of patience with a slow client."""

    def __init__(
        self, app: web.Application, *, client_timeout: float = 20.0, max_connections: int = 2000, **options: Any
    ) -> None:
        super().__init__(app, **options)
        self._client_timeout = client_timeout
        self._max_connections = max_connections

    async def cleanup(self) -> None:
        """Stop serving."""
        await super().cleanup()
        if self._watch is not None:
            self._watch.stop()

    _watch: ConnectionWatch | None = None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(made.request_handler, request_factory=made.request_factory, loop=made._loop, **made._kwargs)
        self._watch = server.watch = ConnectionWatch(server, self._client_timeout, self._max_connections, made._loop)
        self._watch.start()
        return server
