"""Access log: one line per answer, with the matched route rather than the raw path, so no signature is logged."""

from __future__ import annotations

import logging

from aiohttp import web

from devkit_api import logs
from devkit_api.routing import Endpoint
from devkit_api.security.principals import Principal

log = logging.getLogger("devkit_api.access")

# Any other method is a text of the caller's, which may hold what has to be masked.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/v1/system/ready", "/v1/system/health"})


def record(
    request: web.Request, endpoint: Endpoint, principal: Principal | None, response: web.StreamResponse, seconds: float
) -> None:
    """Log the answer; health probes only at DEBUG."""
    level = logging.DEBUG if endpoint.template in _QUIET else logging.INFO
    if not log.isEnabledFor(level):
        return
    caller = principal.kind.value if principal is not None else "unknown"
    fields = {"duration_ms": round(seconds * 1000, 2), "caller": caller}
    lines = logs.access_lines
    if lines is not None and level == logging.INFO and request.method in _METHODS:
        lines.write(f"{request.method} {endpoint.template} {response.status}", fields)
    else:
        log.log(level, "%s %s %d", request.method, endpoint.template, response.status, extra=fields)
