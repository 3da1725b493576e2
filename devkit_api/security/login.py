"""Sign-in, refresh with rotation, sign-out.

A refresh token is good once. Using it again means that two parties hold it, so the whole family of tokens that began
with one sign-in is revoked (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from typing import Any

from devkit_api.errors import LoginRefused
from devkit_api.security.principals import Role
from devkit_api.security.sessions import LIFETIME, Sessions
from devkit_api.security.users import User, UserBook
from devkit_api.state import DocumentStore

COLLECTION = "refresh-tokens"
REFRESH_LIFETIME = 30 * 86_400


class Login:
    """Tokens for local users."""

    def __init__(self, users: UserBook, sessions: Sessions, store: DocumentStore, organization_id: str) -> None:
        self._users = users
        self._sessions = sessions
        self._store = store
        self._organization_id = organization_id
        self._lock = asyncio.Lock()

    async def sign_in(self, email: str, password: str) -> dict[str, Any]:
        """Tokens as wire-contract A.3 names them. Raises `LoginRefused`."""
        user = await self._users.check(email, password)
        if user is None:
            raise LoginRefused(reason="the address or the password is wrong")
        return await self._tokens(user, family=secrets.token_hex(16))

    async def refresh(self, token: str) -> dict[str, Any]:
        """New tokens for a refresh token that was not used before. Raises `LoginRefused`."""
        async with self._lock:
            record = await self._store.get(COLLECTION, _key(token))
            if record is None or not _is_whole(record) or record["expires"] < time.time():
                raise LoginRefused(reason="the refresh token is not valid")
            if record["used"]:
                await self._revoke(record["family"])
                raise LoginRefused(reason="the refresh token was used before; sign in again")
            user = self._users.find(record["user_id"])
            if user is None:
                raise LoginRefused(reason="the user is gone")
            await self._store.put(COLLECTION, _key(token), {**record, "used": True})
            return await self._tokens(user, record["family"])

    async def sign_out(self, token: str | None, user_id: str) -> None:
        """Revoke the family of `token`, or every family of the user."""
        async with self._lock:
            record = await self._store.get(COLLECTION, _key(token)) if token else None
            if record is not None and record["user_id"] == user_id:
                await self._revoke(record["family"])
            elif token is None:
                await self._revoke(None, user_id)

    async def sweep(self) -> None:
        """Forget tokens that have expired."""
        async for key, record in self._store.scan(COLLECTION):
            expires = record.get("expires")
            if not isinstance(expires, int | float) or expires < time.time():
                await self._store.delete(COLLECTION, key)

    async def _tokens(self, user: User, family: str) -> dict[str, Any]:
        refresh = secrets.token_urlsafe(48)
        record = {"family": family, "user_id": user.user_id, "used": False, "expires": time.time() + REFRESH_LIFETIME}
        await self._store.put(COLLECTION, _key(refresh), record)
        access = self._sessions.issue(user.user_id, Role(user.role))
        return {
            "access_token": access,
            "id_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "organization_id": self._organization_id,
        }

    async def _revoke(self, family: str | None, user_id: str | None = None) -> None:
        async for key, record in self._store.scan(COLLECTION):
            if record.get("family") == family or (user_id is not None and record.get("user_id") == user_id):
                await self._store.delete(COLLECTION, key)


def _is_whole(record: dict[str, Any]) -> bool:
    kinds = {"family": str, "user_id": str, "used": bool, "expires": int | float}
    return all(isinstance(record.get(name), kind) for name, kind in kinds.items())


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
