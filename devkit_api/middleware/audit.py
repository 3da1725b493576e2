"""Audit: guarantees a line for every write and every refusal: who, what, on which object, with which outcome.

A write that goes on behind its answer has two: `unfinished` when it was answered, and another when it has ended.

The logger is `devkit.audit`. Its records are part of the log, or JSON lines in a file of their own (DEVKIT_AUDIT_FILE).
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from aiohttp import web

from devkit_api.errors import Unavailable
from devkit_api.logs import mask_secrets
from devkit_api.middleware.deadline import LATE
from devkit_api.middleware.errors import ERROR_CODE, translate
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
    about_whom = {
        "user": principal.user_id if principal else "",
        "caller": principal.kind.value if principal else "unknown",
        "organization": principal.organization_id if principal else "",
        "address": request.app[PROXIES].address(request),
        "action": f"{request.method[:16]} {endpoint.template}",
    }
    policy, late = endpoint.policy or "(no route)", request.get(LATE)
    if late is None:
        _write(request, policy, about_whom, outcome=_outcome(status), status=status, code=request.get(ERROR_CODE))
    else:
        _write(request, policy, about_whom, outcome="unfinished", status=status, code=request.get(ERROR_CODE))
        late.add_done_callback(partial(_ended, request, policy, about_whom))


def _outcome(status: int) -> str:
    return "done" if status < 400 else "refused" if status in _REFUSALS else "failed"


def _ended(
    request: web.Request, policy: str, about_whom: dict[str, Any], work: asyncio.Task[web.StreamResponse]
) -> None:
    """The end of a write whose caller was answered before."""
    exc = Unavailable(what="The devkit, which stops,") if work.cancelled() else work.exception()
    if exc is None:
        status, code = work.result().status, None
    else:
        error = translate(request, exc)
        status, code = error.status, error.code
    _write(request, policy, about_whom, outcome=_outcome(status), status=status, code=code)


def _write(
    request: web.Request, policy: str, about_whom: dict[str, Any], *, outcome: str, status: int, code: str | None
) -> None:
    ids = {**request.match_info, **request.get(_OBJECT, {})}
    shown = {name: mask_secrets(value)[:_MAX_TEXT] for name, value in ids.items()}
    extra = {**about_whom, "object": shown, "outcome": outcome, "status": status, "error": code}
    log.info("%s %s", outcome, policy, extra=extra)
