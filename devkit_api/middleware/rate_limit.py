"""Rate limit: guarantees that one caller cannot keep the server from the others.

Counted per principal once it is known, and per address for wrong credentials, so that keys cannot be guessed at speed.
What runs do is not limited, neither their callbacks nor the transfers on addresses signed for them: it is bounded by
the run itself, and refusing it would fail the run.
"""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import RateLimited
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import policy_of
from devkit_api.security.principals import Kind
from devkit_api.security.proxies import PROXIES
from devkit_api.security.rate_limit import RateLimiter
from devkit_api.system.metrics import METRICS

RATE_LIMITER: web.AppKey[RateLimiter] = web.AppKey("rate_limiter", RateLimiter)


def check(request: web.Request) -> None:
    """Count the request against its caller. Raises `RateLimited`."""
    principal = request[PRINCIPAL]
    if principal.kind is Kind.RUN_TOKEN or policy_of(request) == "objects:signed":
        return
    caller = principal.user_id or request.app[PROXIES].address(request)
    _take(request, _kind(request), caller)


def count_refusal(request: web.Request) -> None:
    """Count a wrong credential against its address. Raises `RateLimited`."""
    _take(request, "refused", request.app[PROXIES].address(request))


def count_login(request: web.Request) -> None:
    """Count a try to sign in against its address: each costs a slow hash. Raises `RateLimited`."""
    _take(request, "login", request.app[PROXIES].address(request))


def _kind(request: web.Request) -> str:
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return "read"
    return "run" if policy_of(request) == "runs:start" else "write"


def _take(request: web.Request, kind: str, caller: str) -> None:
    taken = request.app[RATE_LIMITER].take(kind, caller)
    if taken is None or taken[0].allowed:
        return
    allowance, limit = taken
    request.app[METRICS].refused(kind)
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
