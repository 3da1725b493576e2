"""Who is calling, and with which role."""

from __future__ import annotations

import enum

import attrs


class Kind(enum.StrEnum):
    """How a caller proved who it is."""

    ANONYMOUS = "anonymous"
    API_KEY = "api_key"
    SESSION = "session"
    RUN_TOKEN = "run_token"  # noqa: S105  the name of a kind, not a token


class Role(enum.StrEnum):
    """Roles of the platform, the least first; each may do what the one before may."""

    USER = "user"
    DEVELOPER = "developer"
    ORG_ADMIN = "org_admin"
    PLATFORM_ADMIN = "platform_admin"

    @property
    def rank(self) -> int:
        """Position in the order of roles."""
        return _RANKS[self]


_RANKS = {role: rank for rank, role in enumerate(Role)}

# What a key may be narrowed to. A session and the configured key have all of them.
ALL_SCOPES = frozenset({"read", "write", "delete", "modules:write", "modules:delete", "publish"})


@attrs.frozen
class Principal:
    """An authenticated caller. `run_id` is set for run tokens alone: they act for that run and no other."""

    kind: Kind
    user_id: str = ""
    organization_id: str = ""
    role: Role = Role.USER
    run_id: str | None = None
    scopes: frozenset[str] = ALL_SCOPES

    def may_see(self, user_id: str, organization_id: str) -> bool:
        """Whether this caller may see what belongs to that user: its own, its organisation's as an admin, or all."""
        if self.role is Role.PLATFORM_ADMIN or self.user_id == user_id:
            return True
        return self.role is Role.ORG_ADMIN and self.organization_id == organization_id


ANONYMOUS = Principal(Kind.ANONYMOUS)
