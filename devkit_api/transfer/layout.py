"""What of a state directory is the devkit's content, and what belongs to the machine or is secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from devkit_api.objects.file_parts import PARTS
from devkit_api.state.names import COLLECTIONS
from devkit_api.transfer import TransferRefused

HEADER, END = "devkit-export.json", "devkit-export-end.json"
STATE, CATALOGS = "state", "catalogs"
FORMAT = 1

# Documents and files. An entry of neither list is left out, and named in a warning.
EXPORTED = frozenset({*COLLECTIONS, "bundles", "run-files", "objects"})
SECRET = frozenset({"credentials.env", "api-keys.json", "users.json", "refresh-tokens"})
OF_THE_MACHINE = frozenset(
    {
        "lock",
        "endpoint",
        "health",
        "incoming",
        "work",
        "publish-uploads",
        "quarantine",
        "postgres",
        "spool",
        "devkit-id",
        "state-database",
        "lanes",
        "environments",
    }
)
_LONGEST_NAME = 1024
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}/[0-9]{9}")


def content(state: Path, documents: Path | None = None) -> Iterator[Path]:
    """Every exported file, in a stable order; `documents`: where the documents are, if elsewhere.

    Raises `TransferRefused` for what is no regular file.
    """
    for top in sorted(EXPORTED):
        base = documents if documents is not None and top in COLLECTIONS else state
        for folder, folders, names in os.walk(base / top):
            folders[:] = sorted(name for name in folders if name != PARTS)  # no files yet
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    raise TransferRefused(f"{path} is not a regular file; remove it, the devkit did not make it")
                if not (name.startswith(".") and name.endswith((".tmp", ".part"))):
                    yield path


def unknown(state: Path) -> list[str]:
    """Entries that are neither exported nor left out on purpose."""
    known = EXPORTED | SECRET | OF_THE_MACHINE
    return sorted(path.name for path in state.iterdir() if path.name not in known and not path.name.startswith("."))


def holds_content(state: Path) -> str | None:
    """The first thing that makes a state directory more than an empty devkit, or None."""
    if (state / "postgres" / "data").exists():
        return "a catalog database"
    first = next(content(state), None) if state.is_dir() else None
    return None if first is None else first.relative_to(state).parts[0]


def state_path(name: str) -> PurePosixPath:
    """Where in a state directory a member of an archive belongs. Raises `TransferRefused` for any other place."""
    path = PurePosixPath(name)
    parts = name.split("/")
    is_plain = name.isprintable() and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    if not is_plain or any(part in {"", ".", ".."} for part in parts) or len(parts) < 3:
        raise TransferRefused(f"the archive holds a name that is not allowed: {name[:100]!r}")
    if parts[0] != STATE or parts[1] not in EXPORTED:
        raise TransferRefused(f"the archive holds something that is not part of a devkit: {name[:100]!r}")
    return path.relative_to(STATE)


def table_of(name: str) -> str:
    """`schema.table` of a member with rows. Raises `TransferRefused`."""
    rest = name.removeprefix(f"{CATALOGS}/")
    if not _TABLE.fullmatch(rest):
        raise TransferRefused(f"the archive holds something that is not part of a devkit: {name[:100]!r}")
    return rest.split("/")[0]
