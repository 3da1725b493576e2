"""Audit: guarantees a line for every write and every refusal: who, what, on which object, with which outcome.

The logger is `devkit.audit`. Its records are part of the log, or JSON lines in a file of their own (DEVKIT_AUDIT_FILE).
"""

from __future__ import annotations

import logging

from aiohttp import web

from devkit_api.logs import mask_secrets
from devkit_api.middleware.errors import ERROR_CODE
from devkit_api.routing import Endpoint
from devkit_api.security.principals import Principal
from devkit_api.security.proxies import PROXIES

log = logging.getLogger("devkit.audit")

_OBJECT: web.RequestKey[dict[str, str]] = web.RequestKey("audit_object", dict[str, str])
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSALS = frozenset({401, 403, 429})
_MAX_TEXT = 200


def about(request: web.Request, **ids: str) -> None:
    """Name the object a handler acts on, where the address does not."""
    request[_OBJECT] = {**request.get(_OBJECT, {}), **ids}


def record(request: web.Request, endpoint: Endpoint, principal: Principal | None, response: web.StreamResponse) -> None:
    """Write the line, when the request was a write or was refused."""
    status = response.status
    if (request.method in _READS and status not in _REFUSALS) or not log.isEnabledFor(logging.INFO):
        return
    ids = {**request.match_info, **request.get(_OBJECT, {})}
    outcome = "done" if status < 400 else "refused" if status in _REFUSALS else "failed"
    log.info(
        "%s %s",
        outcome,
        endpoint.policy or "(no route)",
        extra={
            "user": principal.user_id if principal else "",
            "caller": principal.kind.value if principal else "unknown",
            "organization": principal.organization_id if principal else "",
            "address": request.app[PROXIES].address(request),
            "action": f"{request.method[:16]} {endpoint.template}",
            "object": {name: mask_secrets(value)[:_MAX_TEXT] for name, value in ids.items()},
            "outcome": outcome,
            "status": status,
            "error": request.get(ERROR_CODE),
        },
    )
