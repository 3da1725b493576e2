"""Below the application: requests that are not HTTP never reach a middleware, and still get our error body.

aiohttp answers them from its connection handler, in plain text and without headers; this replaces that one method.
"""

from __future__ import annotations

import logging
import os

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from devkit_api.errors import BadRequest, InternalError
from devkit_api.logs import correlation_id
from devkit_api.middleware import headers
from devkit_api.middleware.errors import answer

log = logging.getLogger(__name__)


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The error body for what aiohttp could not parse, or what failed outside of every middleware."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is already on its way")
        correlation_id.set(os.urandom(16).hex())
        if status < 500:
            log.info("malformed request", extra={"reason": type(exc).__name__})
            response = answer(BadRequest(reason="it is not valid HTTP"))
        else:
            log.error("request failed outside of the middleware", exc_info=exc)
            response = answer(InternalError())
        headers.apply(response)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class DevkitRunner(web.AppRunner):
    """`AppRunner` whose connections answer malformed requests as the rest of the devkit answers errors."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)
