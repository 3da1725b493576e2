"""Policy: guarantees that a handler runs only for callers its row of the policy table lets pass."""

from __future__ import annotations

from aiohttp import web

from devkit_api.routing import Endpoint
from devkit_api.security import policy as table
from devkit_api.security.principals import Principal


def authorise(request: web.Request, endpoint: Endpoint, principal: Principal) -> None:
    """Check what was matched; when that is nothing, there is no handler of ours to guard."""
    if endpoint.policy is not None:
        run_id = request.match_info["run_id"] if endpoint.of_a_run else None
        table.authorise(endpoint.policy, principal, run_id)
