"""Body size: guarantees that no declared body beyond its limit is read. Undeclared ones are cut while streaming."""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import BodyTooLarge
from devkit_api.httpio import BODY_LIMITS
from devkit_api.routing import Endpoint


def check(request: web.Request, app: web.Application, endpoint: Endpoint) -> None:
    """Raise `BodyTooLarge` from Content-Length alone."""
    length = request.content_length
    if not length:
        return
    limit = app[BODY_LIMITS].of(endpoint.body, request)
    if length > limit:
        raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
