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
    """One address: `policy` names a row of `security/policy.py`."""

    method: str
    path: str
    handler: Handler
    policy: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The address on every plane it is served on."""
        if self.path.startswith(API + "/"):
            return (self.path, MACHINE_PLANE + self.path.removeprefix(API))
        return (self.path,)


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register each route on its planes and remember which policy guards the handler's resource."""
    policies = app[ROUTE_POLICIES]
    # One resource per path, whatever the order of the routes: a preflight must see all methods of its path.
    resources: dict[str, web.Resource] = {}
    for route in routes:
        for path in route.paths:
            resource = resources.get(path) or app.router.add_resource(path)
            resources[path] = resource
            policies[id(resource.add_route(route.method, route.handler, expect_handler=_expect))] = route.policy


async def _expect(request: web.Request) -> None:
    """`Expect: 100-continue` is met. Other expectations are ignored, as RFC 9110 allows: aiohttp would answer them
    before any middleware.
    """
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The status line above is not yet the answer (aiohttp's own handler does the same).
        request.writer.output_size = 0


ROUTE_POLICIES: web.AppKey[dict[int, str]] = web.AppKey("route_policies", dict[int, str])


def policy_of(request: web.Request) -> str | None:
    """The policy of the matched route; None when nothing matched (404, 405)."""
    return request.app[ROUTE_POLICIES].get(id(request.match_info.route))
