"""How far runs are kept from each other and from the devkit, on the machine as it is."""

from __future__ import annotations

import ctypes
import enum
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from devkit_api.execution.protocol import Limits
from devkit_api.execution.zygote import sandbox

# Users of runs: one per lane, from here on. They need no entry in /etc/passwd.
FIRST_USER = 64_100
USERS = 900

_PR_SET_DUMPABLE = 4
_MIB = 1024**2
# Address space beyond the memory limit: mapped files, thread stacks and allocators reserve much and use little.
_ADDRESS_SLACK = 4 * 1024**3
_CPU_SLACK_SECONDS = 5
_PRIVATE = ("runs", "modules", "plans", "health", "objects", "run-files", "incoming", "quarantine", "work")


class Level(enum.StrEnum):
    """From strong to weak."""

    NAMESPACES = "namespaces"
    USER = "user"
    PROCESS = "process"


EXPLAINED = {
    Level.NAMESPACES: "each module has its own user and processes, and sees nothing of the state directory",
    Level.USER: "each module has its own user; processes and files of the machine are visible",
    Level.PROCESS: "modules run as the devkit's own user, and can read what it can; start as root for more",
}


@attrs.frozen
class Isolation:
    """The level and what it takes."""

    level: Level
    state_dir: Path

    def order(self, user: int | None, source: Path, folder: Path) -> dict[str, Any]:
        """The part of a zygote's order that confines it."""
        return {
            "user": user,
            "namespaces": self.level is Level.NAMESPACES,
            "hidden": [str(self.state_dir)],
            "readable": [str(source)],
            "writable": [str(folder)],
        }

    def limits(self, limits: Limits) -> dict[str, int]:
        """The kernel's limits for a run."""
        cpu = int(limits.runtime_seconds) * (os.cpu_count() or 1) + _CPU_SLACK_SECONDS
        found = {"core": 0, "cpu": cpu, "files": limits.open_files, "file_size": limits.file_bytes}
        if limits.memory_mb is not None:
            found["data"] = limits.memory_mb * _MIB
            found["address_space"] = limits.memory_mb * _MIB + _ADDRESS_SLACK
        if self.level is not Level.PROCESS:
            # Counted per user: it would hit the devkit's own user at once.
            found["processes"] = limits.processes
        return found

    def close_state(self) -> None:
        """Without namespaces, modes keep the state directory to ourselves; bundles and lanes stay reachable."""
        if self.level is Level.USER:
            for name in (
                "runs",
                "modules",
                "plans",
                "health",
                "objects",
                "run-files",
                "incoming",
                "quarantine",
                "work",
            ):
                (self.state_dir / name).mkdir(exist_ok=True)
                (self.state_dir / name).chmod(0o700)


def choose_level(*, wanted: str, namespaces: bool, state_dir: Path) -> Level:
    """The strongest level there is, when it is wanted."""
    if wanted == "process" or os.geteuid() != 0:
        return Level.PROCESS
    if namespaces:
        return Level.NAMESPACES
    return Level.PROCESS if unreachable([sys.prefix, sys.base_prefix, str(state_dir)]) else Level.USER


def probe_level(*, wanted: str, state_dir: Path) -> Level:
    """`choose_level`, found out in a process of its own, because trying changes the one that tries."""
    probe = [sys.executable, "-I", sandbox.__file__]
    namespaces = os.geteuid() == 0 and subprocess.run(probe, check=False).returncode == 0  # noqa: S603  our own text
    return choose_level(wanted=wanted, namespaces=namespaces, state_dir=state_dir)


def unreachable(paths: Iterable[str]) -> str | None:
    """A folder that keeps other users from one of the paths, or None."""
    return next((closed for path in paths if (closed := sandbox.closed_to_others(path))), None)


def close_own_process() -> None:
    """Keep other processes of this user out of our memory and environment."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
