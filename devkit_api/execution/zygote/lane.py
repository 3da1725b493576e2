"""A lane: a zygote for one kind of run, and its place on this machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from devkit_api.execution.environment import needs_fresh_interpreter
from devkit_api.execution.protocol import RunSpec
from devkit_api.execution.scratch import Scratch
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote.handle import Zygote

OWN_PYTHON = Path(sys.executable)


@attrs.frozen
class Kind:
    """What a zygote is for: two runs may share one only if all of this is the same."""

    module_id: str
    version: str
    digest: str
    entrypoint: str
    environment: tuple[tuple[str, str], ...]
    python: Path = OWN_PYTHON
    network: bool = True
    memory_mb: int | None = None

    @classmethod
    def of(cls, spec: RunSpec, python: Path = OWN_PYTHON) -> Kind:
        """The kind of zygote a run needs, executed by the interpreter `python`."""
        environment = tuple(sorted(spec.environment.items()))
        return cls(
            spec.module_id, spec.module_version, spec.source_digest, spec.entrypoint, environment, python,
            spec.network, spec.limits.memory_mb,
        )  # fmt: skip

    @property
    def needs_fresh_interpreter(self) -> bool:
        """Whether no fork of our own interpreter will do: it is another one, or variables count when it starts."""
        return self.python != OWN_PYTHON or needs_fresh_interpreter(dict(self.environment)) is not None

    def is_other_form_of(self, other: Kind) -> bool:
        """Whether both are the same version of a module, and differ all the same."""
        return (self.module_id, self.version) == (other.module_id, other.version) and self != other


@attrs.define(eq=False)
class Lane:
    """A zygote and what the pool keeps beside it."""

    kind: Kind
    zygote: Zygote
    folder: Path
    workdir: Workdir
    user: int | None
    memory_bytes: int = 0
    import_seconds: float | None = None  # when the module was imported ahead of the runs
    served: int = 0  # runs that were given to it
    bundle: tuple[int, int] | None = None  # which folder the zygote has before it, under the name of the bundle
    close_door: Callable[[], Awaitable[None]] | None = None
    scratch: Scratch | None = None

    async def is_usable(self) -> bool:
        """Whether another run may have it: it is there, and the last one left nothing."""
        return (self.scratch is None or await self.scratch.is_as_noted()) and not self.zygote.is_lost


@attrs.frozen
class Doors:
    """How the devkit serves modules that have no network: `open` answers requests on a socket, until what it returns
    is called. `host` and `port` are where modules look for the devkit.
    """

    host: str
    port: int
    open: Callable[[socket.socket], Awaitable[Callable[[], Awaitable[None]]]]


def environment_of(kind: Kind) -> list[Path]:
    """The folder of the interpreter a kind needs, when it is not our own."""
    return [] if kind.python == OWN_PYTHON else [kind.python.parents[1]]


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one of the same name."""
    try:
        info = os.stat(folder)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def make_home(folder: Path, user: int | None) -> Path:
    """The folder of a lane, which belongs to us, and in it the home of its zygote."""
    home = folder / "zygote"
    home.mkdir(mode=0o700, parents=True)
    folder.chmod(0o711)
    folder.parent.chmod(0o711)
    if user is not None:
        os.chown(home, user, user)
    return home
