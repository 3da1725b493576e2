"""Which documents a state directory's files belong to.

Sources, logs, outputs and objects in the directory are named by documents, and what no document names is removed at a
start. With documents in a database, the directory therefore remembers which one: started with the other backend, or
with another database, a devkit would take every file for a leftover.
"""

from __future__ import annotations

from pathlib import Path

from devkit_api.atomic import fsync_folder, write_atomic
from devkit_api.settings import PREFIX, Problem, SettingsError
from devkit_api.state.names import COLLECTIONS

FILE = "state-database"
_MOVE = "python -m devkit_api export FILE with the backend it has, then import FILE into an empty state with the other"


def check_files(state: Path) -> None:
    """For documents in files. Raises `SettingsError` when this directory's are in a database."""
    if (state / FILE).exists():
        reason = f"the documents of {state} are in PostgreSQL, and what they name here would be taken for leftovers"
        fix = f"export {PREFIX}STATE_BACKEND=postgres, as before; to move them: {_MOVE}"
        raise SettingsError([Problem(PREFIX + "STATE_BACKEND", reason, fix)])


def check_database(state: Path) -> None:
    """For documents in a database. Raises `SettingsError` when this directory's are in files."""
    kept = next((name for name in COLLECTIONS if any((state / name).glob("*/*.json"))), None)
    if kept is not None:
        reason = f"{state} holds documents as files ({kept}), which would not be used"
        fix = f"export {PREFIX}STATE_BACKEND=json, as before; to move them: {_MOVE}"
        raise SettingsError([Problem(PREFIX + "STATE_BACKEND", reason, fix)])


def check_bound(state: Path, state_id: str) -> None:
    """Raises `SettingsError` when the directory belongs to another database."""
    file = state / FILE
    if file.exists() and file.read_text(encoding="utf-8").strip() != state_id:
        reason = f"the files in {state} belong to the state of another database, and would be taken for leftovers"
        fix = (
            f"name the database it was used with, or another {PREFIX}STATE_DIR; when that database is lost: rm {file}, "
            "and the files go at the next start"
        )
        raise SettingsError([Problem(PREFIX + "DB_NAME", reason, fix)])


def bind(state: Path, state_id: str) -> None:
    """Remember the database, once. Raises `SettingsError` when the directory belongs to another one."""
    check_bound(state, state_id)
    if not (state / FILE).exists():
        write_atomic(state / FILE, f"{state_id}\n".encode())
        fsync_folder(state)
