"""Run a Python program as an ordinary user, though the suite is root's and its folders are closed to others:

    python -m tests.support.ordinary_user FOLDER MODULE ARGUMENTS...

Root becomes `USER`, with `FOLDER` as the one place to write to, this repository and the interpreter to read, and a home
of its own in `FOLDER`. All that is arranged for this process alone (a mount namespace). Who is no root stays who they
are.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from devkit_api.execution.zygote import sandbox

USER = 65_534
REPO = Path(__file__).resolve().parents[2]
_MS_BIND = 4096


def main() -> None:
    """Become the user, then the program."""
    folder, module, *arguments = sys.argv[1:]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
        environment["HOME"] = str(_home(Path(folder)))
        order = {
            "readable": [str(REPO)],
            "writable": [folder],
            "hidden": [],
            "user": USER,
            "temporary": None,
            "shared_mb": 64,
        }
        sandbox.furnish(order)
        _bind(Path(folder) / "passwd", Path("/etc/passwd"))
        sandbox.drop_to(USER)
    os.chdir(folder)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def _home(folder: Path) -> Path:
    """A home with a file in it, and the list of users that says so."""
    home = folder / "home"
    home.mkdir()
    (home / "diary.txt").write_text("mine")
    for path in (home, home / "diary.txt"):
        os.chown(path, USER, USER)
    (folder / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\nordinary:x:{USER}:{USER}::{home}:/bin/sh\n")
    return home


def _bind(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(bytes(source), bytes(target), None, ctypes.c_ulong(_MS_BIND), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
