"""What a module finds as `/tmp` where it has namespaces: a folder of its lane, on the disk and counted as its own.

Nothing is removed from it between two runs. A run that leaves something there costs the lane, and all of it goes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aiofiles.os import wrap

# What more than this many entries are need not be known.
_MOST = 10_000
# Where it is, what it is and, for files, how much and since when: by the kernel's own time, which no run can set.
_Entry = tuple[str, int, int, int, int]


class Scratch:
    """The folder, and what was in it when the module had been imported."""

    def __init__(self, folder: Path, owner: int | None) -> None:
        self._folder = folder
        self._owner = owner
        self._noted: frozenset[_Entry] | None = None

    def make(self) -> Path:
        """Make the folder. Raises `OSError`."""
        self._folder.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(self._folder, self._owner, self._owner)
        return self._folder

    @wrap
    def note(self) -> None:
        """What is there now belongs to the module: its import left it, or it stands for a folder of the machine."""
        self._noted = _entries(self._folder)

    @wrap
    def is_as_noted(self) -> bool:
        """Whether nothing came, went or changed since."""
        return self._noted is not None and self._noted == _entries(self._folder)


def _entries(folder: Path) -> frozenset[_Entry] | None:
    """Everything in `folder`, or None when that is too much or cannot be looked into."""
    found: set[_Entry] = set()
    folders = [str(folder)]
    try:
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    is_folder = stat.S_ISDIR(info.st_mode)
                    changed = (0, 0) if is_folder else (info.st_size, info.st_ctime_ns)
                    found.add((entry.path, info.st_ino, info.st_mode, *changed))
                    if is_folder:
                        folders.append(entry.path)
                    if len(found) > _MOST:
                        return None
    except OSError:
        return None
    return frozenset(found)
