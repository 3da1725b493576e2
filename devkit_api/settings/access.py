"""Settings: keys, tokens and browser origins."""

from __future__ import annotations

from pathlib import Path

import attrs

from devkit_api.settings.declare import setting
from devkit_api.settings.values import https_address, origins, path, secret, text


@attrs.frozen(kw_only=True, slots=False)
class AccessSettings:
    """Who may call: keys, the tokens of others, and the pages of browsers."""

    api_key: str | None = setting(
        "API_KEY",
        None,
        secret,
        "The key clients send as X-API-Key. Generated into <state>/credentials.env on loopback when unset.",
        example="$(openssl rand -hex 24)",
    )
    api_keys_file: Path | None = setting(
        "API_KEYS_FILE", None, path, "File with further API keys, hashed, with roles and expiry.", example="keys.json"
    )
    jwt_secret: str | None = setting(
        "JWT_SECRET",
        None,
        secret,
        "Secret that signs run tokens, object URLs and local sessions. Generated when unset.",
        example="$(openssl rand -hex 32)",
    )
    jwt_issuer: str = setting("JWT_ISSUER", "hla-compass-devkit", text(200), "Issuer of accepted JWTs.", example="me")
    jwt_audience: str = setting(
        "JWT_AUDIENCE", "hla-compass-devkit", text(200), "Audience of accepted JWTs.", example="hla-compass-devkit"
    )
    jwt_jwks_url: str | None = setting(
        "JWT_JWKS_URL",
        None,
        https_address,
        "Key set of a token issuer (RFC 7517): its RS256 and ES256 tokens are accepted besides our own.",
        example="https://login.lab.example/.well-known/jwks.json",
    )
    jwt_jwks_file: Path | None = setting(
        "JWT_JWKS_FILE", None, path, "The same from a file, without any network.", example="jwks.json"
    )
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS",
        (),
        origins,
        "Browser origins that may call the API, separated by commas; none by default.",
        example="http://localhost:5173",
    )
