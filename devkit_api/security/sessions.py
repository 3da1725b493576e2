"""Bearer tokens of the session plane: JSON Web Tokens, checked as RFC 8725 says.

Our own are HS256 with our secret; those of another issuer are RS256 or ES256 with a key of its key set. The secret is
used for HS256 alone and public keys for their one algorithm, so neither `none` nor a public key can be passed off as a
secret. Every time and address claim must be there and be right.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import attrs
import jwt

from devkit_api.security.jwks import ALGORITHMS, KeySet
from devkit_api.security.principals import Kind, Principal, Role

ALGORITHM = "HS256"
LEEWAY = 30
LIFETIME = 3600
MAX_LENGTH = 4096
_REQUIRED = ["exp", "nbf", "iat", "iss", "aud", "sub"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:-]{0,199}")


class TokenRefused(Exception):
    """The token is not valid; the message says why, for the one who sent it."""


@attrs.frozen
class Sessions:
    """Makes and checks tokens of one issuer for one audience."""

    secret: str = attrs.field(repr=False)
    issuer: str
    audience: str
    organization_id: str
    keys: KeySet | None = attrs.field(default=None, repr=False)

    def issue(self, user_id: str, role: Role, *, lifetime: int = LIFETIME) -> str:
        """A token for a user, good for `lifetime` seconds."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user_id,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": str(uuid.uuid4()),
            "org": self.organization_id,
            "role": role.value,
        }
        return jwt.encode(claims, self.secret, algorithm=ALGORITHM)

    def verify(self, token: str) -> Principal:
        """The caller the token names. Raises `TokenRefused`, and `KeyUnknown` when the key set may have a newer key."""
        if len(token) > MAX_LENGTH:
            raise TokenRefused("the token is too long")
        try:
            key, algorithm = self._key(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefused("the token has expired") from None
        except (jwt.PyJWTError, ValueError):
            raise TokenRefused("the token is not valid here") from None
        return self._principal(claims)

    def _key(self, token: str) -> tuple[Any, str]:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if self.keys is not None and algorithm in ALGORITHMS:
            return self.keys.find(header.get("kid"), algorithm).key, algorithm
        return self.secret, ALGORITHM

    def _principal(self, claims: dict[str, object]) -> Principal:
        user_id, organization_id = str(claims["sub"]), str(claims.get("org") or self.organization_id)
        if not _ID.fullmatch(user_id) or not _ID.fullmatch(organization_id):
            raise TokenRefused("the token names no usable user")
        try:
            role = Role(str(claims.get("role") or "user"))
        except ValueError:
            raise TokenRefused("the token names an unknown role") from None
        return Principal(Kind.SESSION, user_id, organization_id, role)
