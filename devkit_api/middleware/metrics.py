"""Metrics: guarantees that every answer is counted under its route's template, never under a path of the caller's."""

from __future__ import annotations

from aiohttp import web

from devkit_api.routing import Endpoint
from devkit_api.system.metrics import METRICS


def record(
    request: web.Request, app: web.Application, endpoint: Endpoint, response: web.StreamResponse, seconds: float
) -> None:
    """Count the answer, and the bytes of saved files that passed."""
    metrics = app[METRICS]
    metrics.answered(request.method, endpoint.template, response.status, seconds)
    if endpoint.policy == "objects:signed" and response.status < 300:
        sent_in = request.method == "PUT"
        size = request.content_length if sent_in else response.content_length
        metrics.moved("in" if sent_in else "out", size or 0)
