"""Namespaces for a zygote: its own processes and shared memory, and a file system without the devkit's state.

Only root may do this, or who is in a user namespace of its own (`user_namespace`). Everything is undone by the kernel
when the zygote ends, and every process of it ends then too.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Any

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _SIOCSIFADDR = 0x8914, 0x1, 0x8916
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18

# Where files in shared memory are (POSIX), `multiprocessing.shared_memory` among them.
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # nosec B108
_MOST_SHARED_FILES = 100_000

_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()))


class ProcessNamespaces:
    """Children in process namespaces of their own: enter before a fork, leave after it."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self) -> None:
        """The next child is the first process of a new namespace. Raises `OSError`."""
        _check(_libc.unshare(_CLONE_NEWPID))

    def leave(self) -> None:
        """Children after this one are ordinary again."""
        _check(_libc.setns(self._own, _CLONE_NEWPID))


def is_available() -> bool:
    """Whether this process may make namespaces and mounts. Trying changes it."""
    try:
        namespaces = ProcessNamespaces()
        namespaces.enter()
        namespaces.leave()
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    except OSError:
        return False
    return True


def furnish(order: dict[str, Any]) -> bool:
    """A file system for the zygote: `hidden` folders are empty but for what is `readable` and `writable` in them.

    Its System V shared memory, semaphores and message queues are its own as well, and go with it. So is what it finds
    in `/tmp`, when the order names a folder to be it, and in `/dev/shm`, unless the devkit itself lies there: whether
    that is its own is answered.
    """
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    interpreter = [sys.prefix, sys.base_prefix, *filter(os.path.isdir, sys.path)]
    readable, writable = [*order["readable"], *interpreter], order["writable"]
    exposed = sorted({os.path.realpath(path) for path in (*readable, *writable)}, key=len)
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in exposed}
    closed = _closed_ancestors(exposed) if order["user"] is not None else []
    replaced = _replace_temporary(order["temporary"])
    hidden = _outermost([*map(os.path.realpath, order["hidden"]), *closed])
    roots = [root for root in hidden if not any(_is_under(root, place) for place in replaced)]
    for root in roots:
        _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    writable_paths = {os.path.realpath(path) for path in writable}
    for path, fd in kept.items():
        if any(_is_under(path, root) for root in (*roots, *replaced)) and not os.path.samestat(
            os.fstat(fd), _stat(path)
        ):
            _make_place(path, is_folder=stat.S_ISDIR(os.fstat(fd).st_mode))
            _mount(f"/proc/self/fd/{fd}", path, "", _MS_BIND | _MS_REC)
            if path not in writable_paths:
                # What the mount forbids already, an ordinary user has to go on forbidding.
                no_exec = _MS_NOEXEC if os.statvfs(path).f_flag & os.ST_NOEXEC else 0
                _mount("none", path, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | no_exec)
        os.close(fd)
    for root in roots:
        _mount("none", root, "", _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    mount_process_list()
    return _own_shared_memory([*exposed, *roots], order["shared_mb"])


def _own_shared_memory(used: Iterable[str], megabytes: int) -> bool:
    """An empty `/dev/shm`, unless some of what is used lies there."""
    folder = os.path.realpath(SHARED_MEMORY)
    if not os.path.isdir(folder) or any(_is_under(path, folder) or _is_under(folder, path) for path in used):
        return False
    options = f"mode=1777,size={megabytes}m,nr_inodes={_MOST_SHARED_FILES}"
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    return True


def _make_place(path: str, *, is_folder: bool) -> None:
    """What something can be mounted on."""
    os.makedirs(path if is_folder else os.path.dirname(path), 0o755, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _replace_temporary(folder: str | None) -> list[str]:
    """`folder` in the place of those that everybody may write to on this machine; which those are."""
    if folder is None:
        return []
    places = _outermost({os.path.realpath(path) for path in ("/tmp", "/var/tmp") if os.path.isdir(path)})  # noqa: S108  # nosec B108
    source = os.open(folder, os.O_PATH | os.O_CLOEXEC)  # before it is itself covered
    for place in places:
        _mount(f"/proc/self/fd/{source}", place, "", _MS_BIND)
    os.close(source)
    return places


def cut_network(host: str, port: int) -> socket.socket:
    """From now on there is no network but a loopback of our own; whoever gets the returned socket serves on it."""
    _check(_libc.unshare(_CLONE_NEWNET))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
        if family is socket.AF_INET and not host.startswith("127.") and host != "localhost":
            # Where the devkit is on another machine, its address is one of ours in here.
            named = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(host))
            fcntl.ioctl(control, _SIOCSIFADDR, named)
    return socket.create_server((host, port), family=family, backlog=128)


def mount_process_list() -> None:
    """A /proc of the processes there are for us."""
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def drop_to(user: int) -> None:
    """Become an unprivileged user for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities() -> None:
    """Give up, for good, what root may do in this user namespace: with it the mounts could be undone."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those this kernel does not have
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing))


def closed_to_others(path: str) -> str | None:
    """The outermost folder on the way to `path` that other users may not enter, or None."""
    way = ""
    for part in os.path.realpath(path).split("/")[1:]:
        way += f"/{part}"
        if not os.stat(way).st_mode & 0o001:
            return way
    return None


def _closed_ancestors(paths: Iterable[str]) -> list[str]:
    """Folders to replace by ones that can be entered. A path that is closed itself stays so."""
    found = {closed_to_others(path) for path in paths} - set(paths)
    return [path for path in found if path is not None]


def _outermost(paths: Iterable[str]) -> list[str]:
    found: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(_is_under(path, other) for other in found):
            found.append(path)
    return found


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return os.stat("/")
