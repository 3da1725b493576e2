"""Whose a file of a bucket is, where no run says so: devkits that share a bucket mark what they put.

A devkit has an id of its own, and those of the devkits whose exports it imported: what they put is its own as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from devkit_api.atomic import fsync_folder, write_atomic

OWNER = "devkit-owner"
FILE = "devkit-id"
_MOST = 1000


def read_owners(state: Path) -> tuple[str, ...]:
    """The ids of the devkit of this state directory, its own first; made when there is none. Blocking."""
    path = state / FILE
    if not path.is_file():
        write_owners(state, [uuid.uuid4().hex])
    return tuple(path.read_text().split())


def write_owners(state: Path, owners: Sequence[str]) -> None:
    """Make these the ids, the first one its own. Blocking."""
    write_atomic(state / FILE, "\n".join(dict.fromkeys(owners)).encode())
    fsync_folder(state)


def are_owners(value: object) -> bool:
    """Whether this is a list of ids, as an export has it."""
    return isinstance(value, list) and len(value) <= _MOST and all(_is_owner(one) for one in value)


def _is_owner(value: object) -> bool:
    try:
        return isinstance(value, str) and uuid.UUID(value).hex == value
    except ValueError:
        return False
