"""Traces: a span around every request. Outside the chain, and only there when traces are on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from devkit_api.tracing.export import Tracing

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def around(tracing: Tracing) -> Any:
    """The middleware. The span has the route's template, never the path: a path may hold names and signatures."""

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        with tracing.request(request.method, route, request.headers) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            return response

    return traced
