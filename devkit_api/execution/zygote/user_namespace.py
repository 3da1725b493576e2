"""A user namespace for the nursery of a devkit that is not root: in it, an ordinary user may make the other namespaces.

The user stays the same, inside and outside. Many systems allow this to everybody, some to nobody, so it is tried first,
in a process of its own.
"""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn

from . import sandbox

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


def is_available() -> bool:
    """Whether the system lets this user have namespaces, mounts and a process list of its own."""
    pid = os.fork()
    if pid == 0:
        _try()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _try() -> NoReturn:
    code = 1
    try:
        enter(None)
        code = 0 if sandbox.is_available() and _has_process_list() else 1
    except OSError:
        pass
    finally:
        os._exit(code)


def _has_process_list() -> bool:
    sandbox.mount_process_list()
    return True


def enter(socket_fd: int | None) -> None:
    """Go on as the first process of new user and process namespaces. Raises `OSError`.

    The caller itself stays outside, without `socket_fd`, and ends when that process does.
    """
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    pid = os.fork()
    if pid == 0:
        return
    if socket_fd is not None:
        os.close(socket_fd)  # or the server would not see the other's end
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 70)
