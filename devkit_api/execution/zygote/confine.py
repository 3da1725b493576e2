"""What a process gives up, and how its end is tied to another's. Linux; standard library only."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_IPC_RMID = 0

_libc = ctypes.CDLL(None, use_errno=True)
# System V objects outlive who made them. Each list in /proc/sysvipc -> what removes one by its id.
_REMOVERS: dict[str, Callable[[int], int]] = {
    "shm": lambda found: _libc.shmctl(found, _IPC_RMID, None),
    "sem": lambda found: _libc.semctl(found, 0, _IPC_RMID),
    "msg": lambda found: _libc.msgctl(found, _IPC_RMID, None),
}

# Name in the order -> the kernel's limit.
_LIMITS = {
    "address_space": resource.RLIMIT_AS,
    "data": resource.RLIMIT_DATA,
    "cpu": resource.RLIMIT_CPU,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file_size": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
}


def prctl(option: int, value: int) -> None:
    """`prctl(2)`. Raises `OSError`."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def die_with(parent: int) -> None:
    """Be killed when `parent` dies. Must follow any change of user, which would undo it."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(70)


def outlive_parent() -> None:
    """Undo `die_with`."""
    prctl(_PR_SET_PDEATHSIG, 0)


def no_new_privileges() -> None:
    """Make set-user-ID programs and file capabilities powerless, for this process and all it starts."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none escapes `end_all_children`."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(dumpable: bool) -> None:
    """Whether other processes of this user may look into this one (`/proc`, ptrace)."""
    prctl(_PR_SET_DUMPABLE, int(dumpable))


def limit(limits: dict[str, Any]) -> None:
    """Set resource limits, never above the ones there are."""
    for name, value in limits.items():
        kind = _LIMITS[name]
        _, hard = resource.getrlimit(kind)
        bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (bound, bound))


def no_message_queues() -> None:
    """POSIX message queues outlive who made them, and only a mounted list of them would show what is left."""
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))


def remove_shared() -> None:
    """Remove the System V shared memory, semaphores and message queues that this user has made.

    For a user, or a namespace, of our own: anywhere else they may be those of others. Likewise the next.
    """
    for kind, remove in _REMOVERS.items():
        with suppress(OSError), open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            names = file.readline().split()
            for line in file:
                row = dict(zip(names, line.split(), strict=False))
                # Its maker stays the maker: an owner can give it away.
                if row["cuid"] == str(os.geteuid()):
                    remove(int(row[f"{kind}id" if kind != "msg" else "msqid"]))


def remove_files(folder: str, kept: frozenset[str]) -> bool:
    """Remove what this user has in a folder but for the `kept` names; whether nothing else is left."""
    left = []
    for path in (os.path.join(folder, name) for name in names_in(folder) if name not in kept):
        with suppress(OSError):
            if os.lstat(path).st_uid == os.geteuid():
                left.append(path)
                _remove(path)
    return not any(map(os.path.lexists, left))


def names_in(folder: str) -> list[str]:
    """What is in a folder; nothing when it cannot be read."""
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _remove(path: str) -> None:
    """Whatever modes, and however deep: what recurses would end at a depth that a run chooses."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    folders = [path]
    for folder in folders:  # it grows meanwhile
        with suppress(OSError):
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        os.unlink(entry.path)
    for folder in reversed(folders):
        with suppress(OSError):
            os.rmdir(folder)


def replace_environment(environment: dict[str, str]) -> None:
    """Make `environment` the whole of it."""
    os.environ.clear()
    os.environ.update(environment)


def take_over_stdio(output: int, kept: int) -> None:
    """stdin from nowhere, stdout and stderr to `output`, every other descriptor but `kept` closed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):  # the descriptor of the listing itself is gone already
                os.close(int(name))


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with its pid, this names a process for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def children(pid: int) -> list[int]:
    """Pids of the children of `pid`, zombies included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(name))
    return found


def signal_group(leader: int, number: int) -> None:
    """Signal a session leader's process group; the leader alone while it has no group yet."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(leader, number)
    except PermissionError:
        pass


def end_all_children() -> None:
    """Kill and reap every child, and what their deaths leave to us, until there is none."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            # The first process of a namespace can end all others in one go; a fork bomb outruns any list.
            for child in [-1] if os.getpid() == 1 else children(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)
