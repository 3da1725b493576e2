"""Policy: guarantees that a handler runs only for callers its row of the policy table lets pass."""

from __future__ import annotations

from aiohttp import web

from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import policy_of
from devkit_api.security import policy as table


def authorise(request: web.Request) -> None:
    """Check the matched route; an unmatched one has no handler of ours to guard."""
    name = policy_of(request)
    if name is not None:
        table.authorise(name, request[PRINCIPAL], request.match_info.get("run_id"))
