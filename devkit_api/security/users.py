"""Local users who sign in with an address and a password (the CLI's `auth login`)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import uuid
from typing import Any

import attrs
from aiofiles.os import wrap

from devkit_api.security.principals import Role
from devkit_api.security.private_files import PrivateFile

log = logging.getLogger(__name__)

MIN_PASSWORD = 12
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}")
# OWASP Password Storage Cheat Sheet: scrypt with N=2^17, r=8, p=1.
_COST = {"n": 2**17, "r": 8, "p": 1, "maxmem": 256 * 1024 * 1024}


@attrs.frozen
class User:
    """One user as stored: never the password."""

    user_id: str
    email: str
    role: str
    salt: str
    digest: str


class UserBook:
    """The users of one file."""

    def __init__(self, file: PrivateFile) -> None:
        self._file = file
        # Each digest takes 128 MiB for a moment: many at once would starve the rest of the devkit.
        self._one_at_a_time = asyncio.Semaphore(1)

    def users(self) -> list[User]:
        """Every user; a file of another shape holds none."""
        try:
            return [User(**document) for document in self._file.read().get("users", [])]
        except (TypeError, ValueError):
            log.error("the users file has another shape than ours and is not used")
            return []

    def find(self, user_id: str) -> User | None:
        """The user with this id, or None."""
        return next((user for user in self.users() if user.user_id == user_id), None)

    def add(self, email: str, password: str, role: Role) -> User:
        """Add a user or give one a new password and role. Raises `ValueError` with the reason."""
        if not _EMAIL.fullmatch(email):
            raise ValueError("that is not an e-mail address")
        if len(password) < MIN_PASSWORD:
            raise ValueError(f"a password needs at least {MIN_PASSWORD} characters")
        others = [user for user in self.users() if user.email != email.lower()]
        known = next((user for user in self.users() if user.email == email.lower()), None)
        salt = secrets.token_hex(16)
        user_id = known.user_id if known else str(uuid.uuid4())
        user = User(user_id, email.lower(), role.value, salt, _digest(salt, password))
        self._write([*others, user])
        return user

    def remove(self, email: str) -> bool:
        """Remove a user; False when there is none."""
        known = self.users()
        kept = [user for user in known if user.email != email.lower()]
        self._write(kept)
        return len(kept) < len(known)

    async def check(self, email: str, password: str) -> User | None:
        """The user when the password is right. An unknown address takes as long as a wrong password."""
        self._file.forget_age()  # who was added or removed a moment ago is so at once; each try costs much more
        user = next((user for user in self.users() if user.email == email.lower()), None)
        salt, expected = (user.salt, user.digest) if user else ("0" * 32, "")
        async with self._one_at_a_time:
            digest = await _digest_in_thread(salt, password)
        return user if user is not None and hmac.compare_digest(digest, expected) else None

    def _write(self, users: list[User]) -> None:
        content: dict[str, Any] = {"users": [attrs.asdict(user) for user in users]}
        self._file.write(content)


def _digest(salt: str, password: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), dklen=32, **_COST).hex()


_digest_in_thread = wrap(_digest)
