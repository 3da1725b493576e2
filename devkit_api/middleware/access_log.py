"""Access log: one line per answer, with the matched route rather than the raw path, so no signature is logged."""

from __future__ import annotations

import logging

from aiohttp import web

from devkit_api.middleware.authentication import PRINCIPAL

log = logging.getLogger("devkit_api.access")

_QUIET = frozenset({"/v1/system/ready", "/v1/system/health"})


def record(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    """Log the answer; health probes only at DEBUG."""
    level = logging.DEBUG if request.path in _QUIET else logging.INFO
    if not log.isEnabledFor(level):
        return
    resource = request.match_info.route.resource
    principal = request.get(PRINCIPAL)
    log.log(
        level,
        "%s %s %d",
        request.method,
        resource.canonical if resource is not None else "(no route)",
        response.status,
        extra={"duration_ms": round(seconds * 1000, 2), "caller": principal.kind.value if principal else "unknown"},
    )
