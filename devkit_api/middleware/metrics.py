"""Metrics: guarantees that every answer is counted under its route's template, never under a path of the caller's."""

from __future__ import annotations

from aiohttp import web

from devkit_api.routing import policy_of
from devkit_api.system.metrics import METRICS


def record(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    """Count the answer, and the bytes of saved files that passed."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "(no route)"
    metrics = request.app[METRICS]
    metrics.answered(request.method, route, response.status, seconds)
    if response.status < 300 and policy_of(request) == "objects:signed":
        sent_in = request.method == "PUT"
        size = request.content_length if sent_in else response.content_length
        metrics.moved("in" if sent_in else "out", size or 0)
