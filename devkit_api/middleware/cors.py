"""CORS: guarantees that pages of listed origins, and no others, may read answers: errors included.

aiohttp-cors knows the routes and answers preflights; it leaves out answers that no route made (404, 405), so those are
completed here, after it.
"""

from __future__ import annotations

from typing import Any

import aiohttp_cors
from aiohttp import hdrs, web

from devkit_api.routing import add_preflights

EXPOSED = ("X-Correlation-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "ETag", "Content-Range", "Location")
ACCEPTED = ("Authorization", "Content-Type", "X-API-Key", "X-Correlation-ID", "Last-Event-ID", "Range")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def setup(app: web.Application, origins: tuple[str, ...]) -> None:
    """Let pages of `origins` call every route. Call it after all routes are added."""
    if not origins:
        return
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=True, expose_headers=EXPOSED, allow_headers=ACCEPTED, allow_methods=list(METHODS), max_age=600
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(origins, options))
    for route in list(app.router.routes()):
        cors.add(route)
    add_preflights(app)
    allowed = frozenset(origins)

    async def complete(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        headers: Any = response.headers
        headers.add(hdrs.VARY, hdrs.ORIGIN)
        if origin in allowed and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in headers:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = ",".join(EXPOSED)

    app.on_response_prepare.append(complete)
