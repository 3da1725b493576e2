"""What happens around every handler, outermost first.

1. correlation  a well-formed id in, or a new one; on the answer and every log line
2. access log   one line per answer, and its count in the metrics; audit: one per write and refusal
3. headers      security headers on every answer, streams and errors included (`headers.py`, at prepare time)
4. errors       every exception becomes the one error body
5. compression  of what handlers answer, by Accept-Encoding; streams, small answers and secrets excluded
6. body size    413 from Content-Length, before anything is read
7. authentication  header -> principal; wrong credentials are counted against their address
8. rate limit   token bucket per principal and class of request
9. policy       principal x route -> pass or 401/403
10. deadline    an answer after a bounded time; streams excluded

CORS (`cors.py`) is not a layer: aiohttp-cors adds preflight routes, which have no policy, and headers at prepare time.
The rate limit follows authentication because it counts per principal; only refusals are counted per address.

The order is the order of the lines in `chain`: correlation must exist before anything can be logged, errors must be
inside the access log so that refusals are logged too, and nothing is read from a caller who is not let in.
One aiohttp middleware calls one small function per concern: aiohttp's own nesting costs a coroutine per layer. What
was matched is looked up once, and handed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

from aiohttp import web

from devkit_api.middleware import (
    access_log,
    audit,
    authentication,
    body_size,
    compression,
    correlation,
    deadline,
    errors,
    headers,
    metrics,
    policy,
    rate_limit,
)
from devkit_api.routing import endpoint_of
from devkit_api.security.jwks import KeyUnknown

__all__ = ["chain", "headers"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def chain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The whole chain, as the module's docstring tells it."""
    started = perf_counter()
    correlation.begin(request)
    app, endpoint, principal = request.app, endpoint_of(request), None
    try:
        body_size.check(request, app, endpoint)
        try:
            principal = authentication.identify(request, app)
        except KeyUnknown:
            principal = await authentication.identify_anew(request, app)
        rate_limit.check(request, app, endpoint, principal)
        policy.authorise(request, endpoint, principal)
        response = await deadline.answer(request, app, endpoint, handler)
        if compression.is_large(response, app, endpoint):
            await compression.shrink(request, response)
    except Exception as exc:
        response = errors.render(request, exc)
    seconds = perf_counter() - started
    access_log.record(request, endpoint, principal, response, seconds)
    metrics.record(request, app, endpoint, response, seconds)
    audit.record(request, endpoint, principal, response)
    return response
