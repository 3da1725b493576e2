"""Body size: guarantees that no declared body beyond its limit is read. Undeclared ones are cut while streaming."""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import BodyTooLarge
from devkit_api.httpio import BODY_LIMITS


def check(request: web.Request) -> None:
    """Raise `BodyTooLarge` from Content-Length alone."""
    length = request.content_length
    if length is None or length == 0:
        return
    limit = request.app[BODY_LIMITS].for_request(request)
    if length > limit:
        raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
