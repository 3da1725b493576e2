"""From the headers of a request to a principal."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol

from devkit_api.errors import Unauthorized
from devkit_api.security.api_keys import ApiKeyBook
from devkit_api.security.policy import CHALLENGE
from devkit_api.security.principals import ANONYMOUS, Kind, Principal, Role
from devkit_api.security.sessions import Sessions, TokenRefused
from devkit_api.security.tokens import RUN_TOKEN_PREFIX, Signer


class RunTokenBook(Protocol):
    """What authentication needs to know of runs."""

    def token_principal(self, run_id: str, serial: str) -> Principal | None:
        """The principal of a live token, or None when the run has ended, is unknown or has revoked it."""


class Authenticator:
    """Checks the credential of a request. Raises `Unauthorized` for a wrong one; none at all is `ANONYMOUS`."""

    def __init__(
        self,
        *,
        api_key: str,
        owner: Principal,
        keys: ApiKeyBook,
        signer: Signer,
        sessions: Sessions,
        runs: RunTokenBook,
    ) -> None:
        self._api_key_digest = hashlib.sha256(api_key.encode()).digest()
        self._owner = owner
        self._keys = keys
        self._signer = signer
        self._sessions = sessions
        self._runs = runs

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The caller. `X-API-Key` decides when it is there, as the SDK never sends both."""
        key = headers.get("X-API-Key")
        if key is None:
            return self._from_bearer(headers.get("Authorization"))
        if key.startswith(RUN_TOKEN_PREFIX):
            return self._from_run_token(key)
        # Digests have one length, so the comparison takes the same time for every wrong key.
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(digest, self._api_key_digest):
            return self._owner
        principal = self._keys.principal(key)
        if principal is not None:
            return principal
        raise Unauthorized(reason="the API key is not known", headers=CHALLENGE)

    async def refresh_keys(self) -> None:
        """Ask the issuer for its keys. Raises `KeysUnavailable`."""
        if self._sessions.keys is not None:
            await self._sessions.keys.refresh()

    def _from_bearer(self, header: str | None) -> Principal:
        if header is None:
            return ANONYMOUS
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized(reason="the Authorization header holds no bearer token", headers=CHALLENGE)
        try:
            return self._sessions.verify(token.strip())
        except TokenRefused as exc:
            invalid = {"WWW-Authenticate": CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'}
            raise Unauthorized(reason=str(exc), headers=invalid) from None

    def _from_run_token(self, token: str) -> Principal:
        content = self._signer.verify_run_token(token)
        principal = content and self._runs.token_principal(content.run_id, content.serial)
        if not principal:
            raise Unauthorized(reason="the run token is not valid, or its run has ended", headers=CHALLENGE)
        return principal


def owner_principal(user_id: str, organization_id: str) -> Principal:
    """The holder of the configured API key: the person whose machine this is."""
    return Principal(Kind.API_KEY, user_id, organization_id, Role.PLATFORM_ADMIN)
