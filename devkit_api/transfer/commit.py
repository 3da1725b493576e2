"""How an import becomes the devkit: from staging into place, as a whole whatever happens.

Everything is complete in `<state>/.import-…/` first. Then a marker is made durable: from that moment on the import has
happened, and whoever opens the state directory next moves what is not yet in place. Before it, staging is rubbish.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from devkit_api.atomic import fsync_folder, write_atomic

MARKER = ".import-commit"
STAGING = ".import-"


def commit(state: Path, staging: Path) -> None:
    """Make what is staged the content of `state`."""
    write_atomic(state / MARKER, json.dumps({"staging": staging.name}).encode())
    fsync_folder(state)
    settle(state)


def settle(state: Path) -> None:
    """Finish a committed import that was interrupted; remove what an uncommitted one left. The caller has the lock."""
    marker = state / MARKER
    if marker.is_file():
        staging = state / Path(json.loads(marker.read_bytes())["staging"]).name
        if staging.is_dir():
            for entry in sorted(staging.iterdir()):
                _move(entry, state / entry.name)
            fsync_folder(state)
        marker.unlink()
        fsync_folder(state)
    for leftover in state.glob(f"{STAGING}*"):
        if leftover.is_dir():
            discard(leftover)


def discard(folder: Path) -> None:
    """Remove a tree whose folders may be read-only."""
    for parent in [folder, *folder.rglob("*")]:
        if parent.is_dir() and not parent.is_symlink():
            parent.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _move(entry: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)  # folders without a file: the import was let in because nothing else was there
    entry.rename(target)
