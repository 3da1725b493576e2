"""Where the database is and as whom to connect."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import attrs

SQL_ROLE = "devkit_sql"


@attrs.frozen
class Target:
    """A database. `host` is a directory for a socket; `password` is None where the socket itself proves who we are."""

    host: str
    port: int
    name: str
    user: str
    password: str | None = attrs.field(default=None, repr=False)

    def owner(self) -> dict[str, Any]:
        """Connection arguments of the role that owns the schema."""
        return self._arguments(self.user, self.password)

    def reader(self) -> dict[str, Any]:
        """Connection arguments of the restricted role that runs users' SQL (`migrations/0002_access.sql`)."""
        return self._arguments(SQL_ROLE, self.reader_password)

    @property
    def reader_password(self) -> str | None:
        """Derived, so that nothing more has to be kept; useless for guessing the owner's."""
        if self.password is None:
            return None
        return hmac.digest(self.password.encode(), b"hla-compass-devkit:sql-role", hashlib.sha256).hex()

    def _arguments(self, user: str, password: str | None) -> dict[str, Any]:
        found = {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": user,
            "application_name": "hla-compass-devkit",
            "connect_timeout": 5,
        }
        return found if password is None else {**found, "password": password}
