"""How much of the disk a run takes with its files, looked at while it runs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from aiofiles.os import wrap

_BLOCK = 512  # what `st_blocks` counts in
# A folder that we cannot look into may hold anything; one that is gone holds nothing.
_HIDING = (errno.EACCES, errno.ENAMETOOLONG)


@wrap
def beyond(folder: Path, max_bytes: int, max_entries: int) -> str | None:
    """What `folder` has too much of, or None. Stops at the bound, so it costs no more than that many entries."""
    size, entries, folders = 0, 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    except OSError:
                        continue  # it was there a moment ago
                    if entries > max_entries:
                        return f"more than {max_entries} files and folders"
                    if size > max_bytes:
                        return f"more than {max_bytes // 1024**2} MiB"
        except OSError as exc:
            if exc.errno in _HIDING:
                return "a folder that cannot be looked into"
    return None
