"""Files that are whole or absent: atomic writes and the fsyncs that make them last."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write and fsync a temporary file beside `path`, then rename it into place. The caller syncs the folder."""
    if not path.parent.is_dir():
        make_folder_durable(path.parent)
    # A name of its own: two writers of one file must not meet in the temporary one.
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def make_folder_durable(folder: Path) -> None:
    """`mkdir -p`, with each new entry synced in its parent."""
    if folder.is_dir():
        return
    make_folder_durable(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
