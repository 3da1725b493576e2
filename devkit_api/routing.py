"""Routes as data: each domain lists its own, `app.py` registers them all on both planes.

The SDK calls `/v1/api/X` with an API key and `/v1/X` with a bearer token, and some `/v1/X` with either
(wire-contract 1.4). Both addresses therefore lead to the same handler and the same policy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import attrs
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/v1"
MACHINE_PLANE = "/v1/api"


@attrs.frozen
class Route:
    """One address: `policy` names a row of `security/policy.py`; a `stream` has no deadline (`deadline.py`)."""

    method: str
    path: str
    handler: Handler
    policy: str
    stream: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """What is answered: HEAD wherever GET is (RFC 9110, 9.1)."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    @property
    def paths(self) -> tuple[str, ...]:
        """The address on every plane it is served on."""
        if self.path.startswith(API + "/"):
            return (self.path, MACHINE_PLANE + self.path.removeprefix(API))
        return (self.path,)


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register each route on its planes and remember which policy guards the handler's resource."""
    policies, streams = app[ROUTE_POLICIES], app[STREAMS]
    # One resource per path, whatever the order of the routes: a preflight must see all methods of its path.
    resources: dict[str, web.Resource] = {}
    for route in routes:
        for path in route.paths:
            resource = resources.get(path) or app.router.add_resource(path)
            resources[path] = resource
            for method in route.methods:
                added = resource.add_route(method, route.handler, expect_handler=_expect)
                policies[id(added)] = route.policy
                if route.stream:
                    streams.add(id(added))


async def _expect(request: web.Request) -> None:
    """`Expect: 100-continue` is met. Other expectations are ignored, as RFC 9110 allows: aiohttp would answer them
    before any middleware.
    """
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The status line above is not yet the answer (aiohttp's own handler does the same).
        request.writer.output_size = 0


ROUTE_POLICIES: web.AppKey[dict[int, str]] = web.AppKey("route_policies", dict[int, str])
STREAMS: web.AppKey[set[int]] = web.AppKey("streams", set[int])


def policy_of(request: web.Request) -> str | None:
    """The policy of the matched route; None when nothing matched (404, 405)."""
    return request.app[ROUTE_POLICIES].get(id(request.match_info.route))


def is_stream(request: web.Request) -> bool:
    """Whether the matched route streams or transfers."""
    return id(request.match_info.route) in request.app[STREAMS]
