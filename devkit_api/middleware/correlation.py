"""Correlation ids: guarantees that every request has one that is safe in headers and logs."""

from __future__ import annotations

import os

from aiohttp import web

from devkit_api.ids import safe_correlation_id
from devkit_api.logs import correlation_id

CORRELATION_ID = "X-Correlation-ID"


def begin(request: web.Request) -> None:
    """Take the caller's id when it is well-formed, else make one, and put it in the logging context."""
    headers = request.headers
    sent = headers.get(CORRELATION_ID) or headers.get("X-Request-Id")
    correlation_id.set(safe_correlation_id(sent) or os.urandom(16).hex())
