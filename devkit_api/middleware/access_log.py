"""Access log: one line per answer, with the matched route rather than the raw path, so no signature is logged."""

from __future__ import annotations

import logging

from aiohttp import web

from devkit_api.routing import Endpoint
from devkit_api.security.principals import Principal

log = logging.getLogger("devkit_api.access")

_QUIET = frozenset({"/v1/system/ready", "/v1/system/health"})


def record(
    request: web.Request, endpoint: Endpoint, principal: Principal | None, response: web.StreamResponse, seconds: float
) -> None:
    """Log the answer; health probes only at DEBUG."""
    level = logging.DEBUG if endpoint.template in _QUIET else logging.INFO
    if not log.isEnabledFor(level):
        return
    log.log(
        level,
        "%s %s %d",
        request.method,
        endpoint.template,
        response.status,
        extra={"duration_ms": round(seconds * 1000, 2), "caller": principal.kind.value if principal else "unknown"},
    )
