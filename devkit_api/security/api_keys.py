"""Named API keys: several at once, each with a role, scopes and an end, so that keys can be rotated.

A key is `hla_devkit_<id>_<secret>`. The secret has 256 random bits, so a salted SHA-256 is as good as a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from devkit_api.ids import utc_now
from devkit_api.security.principals import ALL_SCOPES, Kind, Principal, Role
from devkit_api.security.private_files import PrivateFile

log = logging.getLogger(__name__)

_KEY = re.compile(r"hla_devkit_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@attrs.frozen
class ApiKey:
    """One key as it is stored: never the secret."""

    key_id: str
    name: str
    salt: str
    digest: str
    user_id: str
    role: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None = None

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and datetime.fromisoformat(self.expires_at) < datetime.now(UTC)


class ApiKeyBook:
    """The keys of one file."""

    def __init__(self, file: PrivateFile, organization_id: str) -> None:
        self._file = file
        self._organization_id = organization_id

    def every(self) -> list[ApiKey]:
        """Every key, oldest first; a file of another shape holds none."""
        try:
            return [_from_document(document) for document in self._file.read().get("keys", [])]
        except (TypeError, KeyError, ValueError):
            log.error("the keys file has another shape than ours and is not used")
            return []

    def create(
        self, name: str, *, user_id: str, role: Role, scopes: frozenset[str], days: int | None
    ) -> tuple[ApiKey, str]:
        """A new key and, this once, the text a client sends."""
        key_id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
        expires = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds") if days else None
        key = ApiKey(
            key_id=key_id,
            name=name,
            salt=salt,
            digest=_digest(salt, secret),
            user_id=user_id,
            role=role.value,
            scopes=tuple(sorted(scopes)),
            created_at=utc_now(),
            expires_at=expires,
        )
        self._file.write({"keys": [attrs.asdict(k) for k in [*self.every(), key]]})
        return key, f"hla_devkit_{key_id}_{secret}"

    def revoke(self, key_id: str) -> bool:
        """Forget a key; False when there is none with this id."""
        known = self.every()
        kept = [key for key in known if key.key_id != key_id]
        self._file.write({"keys": [attrs.asdict(key) for key in kept]})
        return len(kept) < len(known)

    def principal(self, text: str) -> Principal | None:
        """The caller a key stands for, or None."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        key = self._find(match[1])
        if key is None:
            self._file.forget_age()  # a key made a moment ago works at once; wrong ones are rate limited
            key = self._find(match[1])
        if key is None or key.is_expired or not hmac.compare_digest(key.digest, _digest(key.salt, match[2])):
            return None
        return Principal(
            Kind.API_KEY, key.user_id, self._organization_id, Role(key.role), scopes=frozenset(key.scopes) & ALL_SCOPES
        )

    def _find(self, key_id: str) -> ApiKey | None:
        return next((key for key in self.every() if key.key_id == key_id), None)


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}:{secret}".encode()).hexdigest()


def _from_document(document: dict[str, Any]) -> ApiKey:
    key = ApiKey(**{**document, "scopes": tuple(document["scopes"])})
    Role(key.role)
    if key.expires_at is not None:
        datetime.fromisoformat(key.expires_at)
    return key
