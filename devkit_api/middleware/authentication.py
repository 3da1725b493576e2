"""Authentication: guarantees that `request[PRINCIPAL]` says who calls before anything acts on it."""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import Unavailable
from devkit_api.security.authentication import Authenticator
from devkit_api.security.jwks import KeysUnavailable
from devkit_api.security.principals import Principal

AUTHENTICATOR: web.AppKey[Authenticator] = web.AppKey("authenticator", Authenticator)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)


async def refresh_keys(request: web.Request) -> None:
    """Ask the issuer for its keys. Raises `Unavailable`."""
    try:
        await request.app[AUTHENTICATOR].refresh_keys()
    except KeysUnavailable:
        raise Unavailable(what="The key set of the token issuer", headers={"Retry-After": "10"}) from None


def identify(request: web.Request) -> None:
    """Set the principal; a wrong credential raises `Unauthorized`, one of a key we do not hold `KeyUnknown`."""
    request[PRINCIPAL] = request.app[AUTHENTICATOR].authenticate(request.headers)
