"""How far runs are kept from each other and from the devkit, on the machine as it is."""

from __future__ import annotations

import ctypes
import enum
import os
import pwd
import re
import subprocess
import sys
import tempfile
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
# Of a module whose manifest names no memory; of others it is as much as that.
_SHARED_MB = 1024
_PRIVATE = (
    "runs", "modules", "plans", "health", "objects", "run-files", "incoming", "quarantine", "work", "publications",
    "deployments", "publish-uploads",
)  # fmt: skip
# What runs have to reach, and what has an owner of its own.
_OPEN = frozenset({"bundles", "lanes", "environments", "postgres"})


class Level(enum.StrEnum):
    """From strong to weak."""

    NAMESPACES = "namespaces"
    CONTAINED = "contained"
    USER = "user"
    PROCESS = "process"


EXPLAINED = {
    Level.NAMESPACES: "each module has its own user and processes, and sees nothing of the state directory",
    Level.CONTAINED: "each module sees its own processes alone, and nothing of the state directory or of your home",
    Level.USER: "each module has its own user; processes and files of the machine are visible",
    Level.PROCESS: "modules run as the devkit's own user, and can read what it can",
}


class IsolationMissing(Exception):
    """The isolation that was asked for is not to be had; the text says so."""


@attrs.frozen
class Surroundings:
    """What is around an executor, besides its own folder: folders no module may see, and ones every module may read."""

    hidden: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()


@attrs.frozen
class Isolation:
    """The level and what it takes."""

    level: Level
    state_dir: Path
    around: Surroundings = Surroundings()

    def order(
        self, user: int | None, readable: list[Path], folder: Path, *, temporary: Path | None, memory_mb: int | None
    ) -> dict[str, Any]:
        """The part of a zygote's order that confines it. `temporary`: its own `/tmp`; without one, the machine's."""
        return {
            "user": user,
            "namespaces": self.has_namespaces,
            "hidden": self._hidden(),
            "readable": [str(path) for path in (*readable, *self.around.readable)],
            "writable": [str(folder)],
            "temporary": None if temporary is None else str(temporary),
            "shared_mb": memory_mb or _SHARED_MB,
        }

    @property
    def has_namespaces(self) -> bool:
        """Whether the kernel ends all a run has started, and hides the rest of the machine's processes."""
        return self.level in (Level.NAMESPACES, Level.CONTAINED)

    @property
    def has_users(self) -> bool:
        """Whether runs have users of their own."""
        return self.level in (Level.NAMESPACES, Level.USER)

    def _hidden(self) -> list[str]:
        hidden = [str(self.state_dir), *map(str, self.around.hidden)]
        if self.level is Level.CONTAINED:
            # The same user outside may enter all of this.
            hidden += [str(path) for path in Path(tempfile.gettempdir()).glob("hla-devkit-*")]
            home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
            hidden += [str(home)] if len(home.parts) > 1 and home.is_dir() else []
        return hidden

    def limits(self, limits: Limits) -> dict[str, int]:
        """The kernel's limits for a run."""
        cpu = int(limits.runtime_seconds) * (os.cpu_count() or 1) + _CPU_SLACK_SECONDS
        found = {"core": 0, "cpu": cpu, "files": limits.open_files, "file_size": limits.file_bytes}
        if limits.memory_mb is not None:
            found["data"] = limits.memory_mb * _MIB
            found["address_space"] = limits.memory_mb * _MIB + _ADDRESS_SLACK
        if self.has_users or (self.has_namespaces and _counts_processes_per_namespace()):
            # Counted per user: it would hit the devkit's own user at once.
            found["processes"] = limits.processes
        return found

    def import_limits(self, memory_mb: int | None) -> dict[str, int]:
        """For the process that imports a module: those of them that are the same for each of its runs."""
        found = self.limits(Limits(runtime_seconds=0, output_bytes=0, memory_mb=memory_mb))
        return {name: value for name, value in found.items() if name not in {"cpu", "file_size"}}

    def close_state(self) -> None:
        """Without namespaces, modes keep the state directory to ourselves; bundles and lanes stay reachable."""
        if self.level is Level.USER:
            found = {path.name for path in self.state_dir.iterdir() if path.is_dir()}
            for name in found - _OPEN | set(_PRIVATE):
                (self.state_dir / name).mkdir(exist_ok=True)
                (self.state_dir / name).chmod(0o700)


def choose_level(*, wanted: str, namespaces: bool, state_dir: Path) -> Level:
    """The strongest level there is, when it is wanted."""
    if wanted == "process":
        return Level.PROCESS
    if namespaces:
        return Level.NAMESPACES if os.geteuid() == 0 else Level.CONTAINED
    if os.geteuid() != 0:
        return Level.PROCESS
    return Level.PROCESS if unreachable([sys.prefix, sys.base_prefix, str(state_dir)]) else Level.USER


def check_wanted(wanted: str, level: Level) -> None:
    """Raises `IsolationMissing` when namespaces are wanted and not there."""
    if wanted == "namespaces" and level not in (Level.NAMESPACES, Level.CONTAINED):
        raise IsolationMissing("DEVKIT_ISOLATION asks for namespaces, and this machine gives this user none")


def probe_level(*, wanted: str, state_dir: Path) -> Level:
    """`choose_level`, found out in a process of its own, because trying changes the one that tries."""
    probe = [sys.executable, "-I", str(Path(sandbox.__file__).with_name("probe.py"))]
    namespaces = wanted != "process" and subprocess.run(probe, check=False).returncode == 0  # noqa: S603  our own text
    return choose_level(wanted=wanted, namespaces=namespaces, state_dir=state_dir)


def unreachable(paths: Iterable[str]) -> str | None:
    """A folder that keeps other users from one of the paths, or None."""
    return next((closed for path in paths if (closed := sandbox.closed_to_others(path))), None)


def _counts_processes_per_namespace() -> bool:
    """Since Linux 5.14 a user's processes are counted in each user namespace anew."""
    major, minor = (int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return (major, minor) >= (5, 14)


def close_own_process() -> None:
    """Keep other processes of this user out of our memory and environment."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
