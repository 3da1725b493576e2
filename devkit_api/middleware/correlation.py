"""Correlation ids: guarantees that every request has one that is safe in headers and logs, and hands it on."""

from __future__ import annotations

import os
from types import SimpleNamespace

from aiohttp import ClientSession, TraceConfig, TraceRequestStartParams, web

from devkit_api.ids import safe_correlation_id
from devkit_api.logs import correlation_id, mask_secrets

CORRELATION_ID = "X-Correlation-ID"


def begin(request: web.Request) -> None:
    """Take the caller's id when it is well-formed and no secret, else make one, and put it in the logging context."""
    headers = request.headers
    sent = headers.get(CORRELATION_ID) or headers.get("X-Request-Id")
    known = safe_correlation_id(sent)
    # It is logged, answered and handed on as it is: a secret sent in its place goes no further.
    if known is None or mask_secrets(known) != known:
        known = os.urandom(16).hex()
    correlation_id.set(known)


def handed_on() -> TraceConfig:
    """For a client session: its requests carry the id of whatever they are made for, when there is one."""
    config = TraceConfig()
    config.on_request_start.append(_send)
    return config


async def _send(_client: ClientSession, _context: SimpleNamespace, starting: TraceRequestStartParams) -> None:
    current = safe_correlation_id(correlation_id.get())
    if current is not None:
        starting.headers[CORRELATION_ID] = current
