"""Authentication: guarantees that `request[PRINCIPAL]` says who calls before anything acts on it."""

from __future__ import annotations

from aiohttp import web

from devkit_api.security.authentication import Authenticator
from devkit_api.security.principals import Principal

AUTHENTICATOR: web.AppKey[Authenticator] = web.AppKey("authenticator", Authenticator)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)


def identify(request: web.Request) -> None:
    """Set the principal; a wrong credential raises `Unauthorized`."""
    request[PRINCIPAL] = request.app[AUTHENTICATOR].authenticate(request.headers)
