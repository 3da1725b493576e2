"""Authentication: guarantees that `request[PRINCIPAL]` says who calls before anything acts on it."""

from __future__ import annotations

from aiohttp import web

from devkit_api.errors import Unauthorized, Unavailable
from devkit_api.middleware import rate_limit
from devkit_api.security.authentication import Authenticator
from devkit_api.security.jwks import KeysUnavailable, KeyUnknown
from devkit_api.security.policy import CHALLENGE
from devkit_api.security.principals import Principal

AUTHENTICATOR: web.AppKey[Authenticator] = web.AppKey("authenticator", Authenticator)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)


def identify(request: web.Request, app: web.Application) -> Principal:
    """Who calls. A wrong credential is counted and raises `Unauthorized`, one of a key we do not hold `KeyUnknown`."""
    try:
        principal = app[AUTHENTICATOR].authenticate(request.headers)
    except Unauthorized:
        rate_limit.count_refusal(request)
        raise
    request[PRINCIPAL] = principal
    return principal


async def identify_anew(request: web.Request, app: web.Application) -> Principal:
    """The same after asking the issuer, who may have a new key since. Raises `Unauthorized` or `Unavailable`."""
    try:
        await app[AUTHENTICATOR].refresh_keys()
    except KeysUnavailable:
        raise Unavailable(what="The key set of the token issuer", headers={"Retry-After": "10"}) from None
    try:
        return identify(request, app)
    except KeyUnknown:
        rate_limit.count_refusal(request)
        raise Unauthorized(reason="the token is not valid here", headers=CHALLENGE) from None
