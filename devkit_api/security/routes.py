"""Addresses of sign-in (wire-contract A.3)."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from marshmallow import fields, validate

from devkit_api.describe import describe
from devkit_api.errors import LoginRefused, RateLimited
from devkit_api.httpio import json_answer, read_body
from devkit_api.middleware import audit, rate_limit
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Route
from devkit_api.schemas import AnswerSchema, StrictSchema
from devkit_api.security.login import Login

LOGIN: web.AppKey[Login] = web.AppKey("login", Login)


class LoginSchema(StrictSchema):
    """`POST /v1/auth/login`."""

    email = fields.String(required=True, validate=validate.Length(3, 254), metadata={"example": "me@lab.example"})
    password = fields.String(required=True, validate=validate.Length(1, 1024), load_only=True)


class RefreshSchema(StrictSchema):
    """`POST /v1/auth/refresh`."""

    refresh_token = fields.String(required=True, validate=validate.Length(1, 2048))


class LogoutSchema(StrictSchema):
    """`POST /v1/auth/logout`; the token may be left out."""

    refresh_token = fields.String(allow_none=True, validate=validate.Length(max=2048))


class TokensSchema(AnswerSchema):
    """Tokens of a session (wire-contract A.3)."""

    access_token = fields.String(required=True)
    refresh_token = fields.String(required=True)
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds."})


class SignedOutSchema(AnswerSchema):
    """A sign-out."""

    refreshSessionsRevoked = fields.Boolean(required=True)


_LOGIN, _REFRESH, _LOGOUT = LoginSchema(), RefreshSchema(), LogoutSchema()


@describe(
    body=LoginSchema,
    example={"email": "me@lab.example", "password": "a long phrase of mine"},  # pragma: allowlist secret
    answer=TokensSchema,
    errors=(LoginRefused, RateLimited),
)
async def login(request: web.Request) -> web.Response:
    """Tokens for an address and a password; every try counts against the caller's address."""
    rate_limit.count_login(request)
    body = await read_body(request, _LOGIN)
    audit.about(request, email=body["email"])
    return _private(await request.app[LOGIN].sign_in(body["email"], body["password"]))


@describe(
    body=RefreshSchema,
    example={"refresh_token": "the-refresh-token-of-the-last-sign-in"},  # pragma: allowlist secret
    answer=TokensSchema,
    errors=(LoginRefused, RateLimited),
)
async def refresh(request: web.Request) -> web.Response:
    """New tokens for a refresh token, which is spent by this."""
    rate_limit.count_login(request)
    body = await read_body(request, _REFRESH)
    return _private(await request.app[LOGIN].refresh(body["refresh_token"]))


@describe(body=LogoutSchema, body_optional=True, example={}, answer=SignedOutSchema)
async def logout(request: web.Request) -> web.Response:
    """Revoke refresh tokens. The SDK takes exactly this answer, at the top level."""
    body = await read_body(request, _LOGOUT, optional=True)
    await request.app[LOGIN].sign_out(body.get("refresh_token"), request[PRINCIPAL].user_id)
    return json_answer({"refreshSessionsRevoked": True})


def _private(tokens: dict[str, Any]) -> web.Response:
    return json_answer(tokens, headers={"Cache-Control": "no-store"})


ROUTES = [
    Route("POST", "/v1/auth/login", login, "session:begin"),
    Route("POST", "/v1/auth/refresh", refresh, "session:begin"),
    Route("POST", "/v1/auth/logout", logout, "session:end"),
]
