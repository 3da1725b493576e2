"""Routes as data: each domain lists its own, `app.py` registers them all on both planes.

The SDK calls `/v1/api/X` with an API key and `/v1/X` with a bearer token, and some `/v1/X` with either
(wire-contract 1.4). Both addresses therefore lead to the same handler and the same policy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum

import attrs
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/v1"
MACHINE_PLANE = "/v1/api"


class Body(Enum):
    """What the body of a request is; `httpio.BodyLimits` says how large each may be."""

    JSON = "json"
    FORM = "form"  # a module's source as a multipart form, or JSON
    SOURCE = "source"
    OBJECT = "object"
    OUTPUT = "output"


@attrs.frozen
class Route:
    """One address: `policy` names a row of `security/policy.py`; a `stream` has no deadline (`deadline.py`)."""

    method: str
    path: str
    handler: Handler
    policy: str
    stream: bool = False
    body: Body = Body.JSON

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


@attrs.frozen(eq=False)
class Endpoint:
    """What was matched, as the middleware asks for it on every request. `route` and `policy` are None when nothing
    matched (404, 405) and for preflights; `template` is the address with its parameters' names.
    """

    route: Route | None = None
    template: str = "(no route)"
    policy: str | None = None
    body: Body = Body.JSON
    stream: bool = False
    of_a_run: bool = False


NOWHERE = Endpoint()


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register each route on its planes, and remember it for the middleware: `endpoint_of` finds it."""
    if ENDPOINTS not in app:
        app[ENDPOINTS] = {}
    known = app[ENDPOINTS]
    # One resource per path, whatever the order of the routes: a preflight must see all methods of its path.
    resources: dict[str, web.Resource] = {}
    for route in routes:
        for path in route.paths:
            resource = resources.get(path) or app.router.add_resource(path)
            resources[path] = resource
            template = resource.canonical
            endpoint = Endpoint(route, template, route.policy, route.body, route.stream, "{run_id}" in template)
            for method in route.methods:
                added = resource.add_route(method, route.handler, expect_handler=_expect)
                known[id(added)] = endpoint


def add_preflights(app: web.Application) -> None:
    """Remember what was added to the routes since: the preflights, which have no policy."""
    for route in app.router.routes():
        if route.resource is not None:
            app[ENDPOINTS].setdefault(id(route), Endpoint(template=route.resource.canonical))


async def _expect(request: web.Request) -> None:
    """`Expect: 100-continue` is met. Other expectations are ignored, as RFC 9110 allows: aiohttp would answer them
    before any middleware.
    """
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The status line above is not yet the answer (aiohttp's own handler does the same).
        request.writer.output_size = 0


# By `id` of aiohttp's own route: a look-up per request must cost next to nothing.
ENDPOINTS: web.AppKey[dict[int, Endpoint]] = web.AppKey("endpoints", dict[int, Endpoint])


def endpoint_of(request: web.Request) -> Endpoint:
    """What the request matched."""
    return request.app[ENDPOINTS].get(id(request.match_info.route), NOWHERE)
