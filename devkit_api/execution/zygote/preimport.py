"""Import a module before its first run, in a way no run can tell from importing it itself.

Whatever a fork could not carry over faithfully (threads, open files, sockets, children), and whatever would have read
the run's own variables, makes the module unfit: its runs then import it themselves.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import signal
import sys
import threading
from typing import Any

_MAX_CAPTURE = 64 * 1024
_OWN_PREFIX = "_devkit_zygote"


class Imported:
    """What pre-importing found out: why the module is unfit (or None), and what runs have to repeat or to keep."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.printed = b""
        self.random_state: Any = None
        self.log_handler: logging.Handler | None = None
        self.log_level: int | None = None


class _WatchedEnviron(os._Environ):  # type: ignore[type-arg]
    """`os.environ` that notes whether variables of the run are read."""

    def __getitem__(self, key: str) -> str:
        if isinstance(key, str) and key.startswith("HLA_"):
            _read_early.add(key)
        return super().__getitem__(key)  # type: ignore[no-any-return]


_read_early: set[str] = set()


def import_module(entrypoint: str, source: str) -> Imported:
    """Import the entrypoint's module from `source`, the current directory, as the runner would."""
    found = Imported()
    sys.path[0] = source
    found.log_handler = _configure_logging()
    configured_level = logging.getLogger().level
    before = _descriptors()
    capture = os.memfd_create("import-output", os.MFD_CLOEXEC)
    try:
        found.problem = _import(entrypoint, capture, found) or _unfit(before | {capture})
        found.printed = _captured(capture)
        if len(found.printed) > _MAX_CAPTURE:
            found.problem = found.problem or "it prints a lot while it is imported"
    finally:
        os.close(capture)
    level = logging.getLogger().level
    found.log_level = level if level != configured_level else None
    return found


def hide_ourselves() -> None:
    """No trace of the zygote where a module could look or stumble; what runs keeps its own references."""
    for name in [name for name in sys.modules if name.startswith(_OWN_PREFIX)]:
        del sys.modules[name]


def _configure_logging() -> logging.Handler | None:
    """Logging as the runner has it when it imports the module; each run sets it up anew."""
    runner = sys.modules["hla_compass.runtime.runner"]
    runner._configure_logging()
    handlers = logging.getLogger().handlers
    return handlers[0] if handlers else None


def _import(entrypoint: str, capture: int, found: Imported) -> str | None:
    saved = os.dup(1), os.dup(2)
    os.dup2(capture, 1)
    os.dup2(capture, 2)
    original_seed = random.seed

    seeded: list[bool] = []

    def seed(*args: Any, **kwargs: Any) -> None:
        seeded.append(True)
        original_seed(*args, **kwargs)

    random.seed = seed
    environ_class = os.environ.__class__
    os.environ.__class__ = _WatchedEnviron
    try:
        importlib.import_module(entrypoint.partition(":")[0])
    except BaseException as exc:
        return f"importing it raises {type(exc).__name__}"
    finally:
        os.environ.__class__ = environ_class
        random.seed = original_seed
        found.random_state = random.getstate() if seeded else None
        sys.stdout.flush()
        sys.stderr.flush()
        for target, copy in enumerate(saved, start=1):
            os.dup2(copy, target)
            os.close(copy)
    return None


def _unfit(descriptors: set[int]) -> str | None:
    """Why the process cannot be forked faithfully, or None."""
    if _read_early:
        return f"it reads {sorted(_read_early)[0]} while it is imported"
    if threading.active_count() > 1:
        return "it leaves a thread running after its import"
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        return "it handles SIGCHLD"
    if signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        return "it leaves a timer running"
    opened = _descriptors() - descriptors
    if opened:
        return f"it leaves {_kind(min(opened))} open after its import"
    if _has_children():
        return "it leaves a process running after its import"
    if _native_threads() > 1:
        return "a library it imports leaves threads that do not survive a fork"
    return None


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")} - {_listing_fd()}


def _listing_fd() -> int:
    """The descriptor `listdir` itself uses: the lowest free one."""
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    return fd


def _kind(fd: int) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "a file"
    return "a socket" if target.startswith("socket:") else f"a file ({os.path.basename(target)})"


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _native_threads() -> int:
    """Threads left after a fork: libraries such as OpenBLAS end theirs then, and start them again when needed."""
    if len(os.listdir("/proc/self/task")) == 1:
        return 1
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(os.listdir("/proc/self/task"))


def _captured(capture: int) -> bytes:
    os.lseek(capture, 0, os.SEEK_SET)
    return os.read(capture, _MAX_CAPTURE + 1)
