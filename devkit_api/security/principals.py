"""Who is calling."""

from __future__ import annotations

import enum

import attrs


class Kind(enum.StrEnum):
    """How a caller proved who it is."""

    ANONYMOUS = "anonymous"
    API_KEY = "api_key"
    RUN_TOKEN = "run_token"  # noqa: S105  the name of a kind, not a token


@attrs.frozen
class Principal:
    """An authenticated caller. `run_id` is set for run tokens alone: they act for that run and no other."""

    kind: Kind
    user_id: str = ""
    organization_id: str = ""
    role: str = ""
    scopes: frozenset[str] = frozenset()
    run_id: str | None = None


ANONYMOUS = Principal(Kind.ANONYMOUS)
