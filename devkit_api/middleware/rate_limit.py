"""Rate limit: guarantees that one caller cannot keep the server from the others.

Counted per principal once it is known, and per address for wrong credentials, so that keys cannot be guessed at speed.
What runs do is not limited, neither their callbacks nor the transfers on addresses signed for them: it is bounded by
the run itself, and refusing it would fail the run.
"""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import RateLimited
from devkit_api.routing import Endpoint
from devkit_api.security.principals import Kind, Principal
from devkit_api.security.proxies import PROXIES
from devkit_api.security.rate_limit import RateLimiter
from devkit_api.system.metrics import METRICS

_OF_RUNS = frozenset({"objects:signed", "cluster:attach"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
RATE_LIMITER: web.AppKey[RateLimiter] = web.AppKey("rate_limiter", RateLimiter)


def check(request: web.Request, app: web.Application, endpoint: Endpoint, principal: Principal) -> None:
    """Count the request against its caller. Raises `RateLimited`."""
    if principal.kind is Kind.RUN_TOKEN or endpoint.policy in _OF_RUNS:
        return
    kind = "read" if request.method in _READS else "run" if endpoint.policy == "runs:start" else "write"
    _take(app, kind, principal.user_id or app[PROXIES].address(request))


def count_refusal(request: web.Request) -> None:
    """Count a wrong credential against its address. Raises `RateLimited`."""
    _take(request.app, "refused", request.app[PROXIES].address(request))


def count_login(request: web.Request) -> None:
    """Count a try to sign in against its address: each costs a slow hash. Raises `RateLimited`."""
    _take(request.app, "login", request.app[PROXIES].address(request))


def _take(app: web.Application, kind: str, caller: str) -> None:
    taken = app[RATE_LIMITER].take(kind, caller)
    if taken is None or taken[0].allowed:
        return
    allowance, limit = taken
    app[METRICS].refused(kind)
    # Header fields: IETF draft-ietf-httpapi-ratelimit-headers.
    raise RateLimited(
        kind=kind,
        headers={
            "Retry-After": str(allowance.retry_after),
            "RateLimit-Policy": f'"{kind}";q={limit.count};w={limit.period}',
            "RateLimit": f'"{kind}";r=0;t={allowance.retry_after}',
        },
        details={"limit": str(limit)},
    )
