"""The schema of the documents. Blocking."""

from __future__ import annotations

from devkit_api.database.migrate import History, migrate
from devkit_api.database.target import Target

HISTORY = History("devkit_api.state.postgres", "devkit_state", "migrations")


def prepare(target: Target) -> None:
    """Make it, or bring it up to date. Raises `SettingsError` when it is a newer devkit's."""
    migrate(target, history=HISTORY)
