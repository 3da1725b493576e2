"""Processes that outlived a devkit that was killed.

In a process namespace the kernel ends everything. Elsewhere a zygote ends what its run has started when it sees that
the server is gone. What is left even then is found in two ways: the group of every run's leader, recorded by pid and
start time, which together name a process for good; and the lanes' folder, which whoever is a fork of a nursery has
among its arguments, and whoever was started anew has in its environment. One devkit at a time owns a state directory,
so at its start nobody else can have either.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs

log = logging.getLogger(__name__)

_WAIT_SECONDS = 5.0
_ZYGOTE_SECONDS = 2.0
_POLL_SECONDS = 0.05
_RECORD = "leader"


@attrs.frozen
class _Process:
    """What `/proc/<pid>/stat` says of a living process."""

    pid: int
    group: int
    session: int
    start_time: int


def record(lane: Path, pid: int, start_time: int | None, user: int | None) -> None:
    """Note who leads the lane's run, when it is a process of the run's user: a module could name any other."""
    if start_time is not None and user in (None, _user_of(pid)):
        try:
            (lane / _RECORD).write_text(f"{pid} {start_time}")
        except OSError:
            # It is at work by now. Without the note, its lane's mark is what it is found by.
            log.exception("the leader of a run could not be noted")


def end_orphans(lanes: Path) -> int:
    """Kill what is left of the runs in `lanes`, and wait until it is gone; how many there were."""
    marker = f"{lanes}".encode()
    leaders = dict(_recorded(lanes))

    def left() -> list[int]:
        return [process.pid for process in _living() if _is_led(process, leaders) or _is_marked(process.pid, marker)]

    _wait_for_zygotes(left)
    ended = 0
    while found := left():
        for pid in found:
            _end(pid)
        ended += len(found)
    if ended:
        log.warning("processes of a devkit that was killed have been ended", extra={"count": ended})
    return ended


def _wait_for_zygotes(left: Callable[[], list[int]]) -> None:
    """Zygotes know best what their runs have started: they get a moment to end it."""
    deadline = time.monotonic() + _ZYGOTE_SECONDS
    while left() and time.monotonic() < deadline:
        # They are not our children: there is no end of theirs to wait for.
        time.sleep(_POLL_SECONDS)


def _recorded(lanes: Path) -> Iterator[tuple[int, int]]:
    for path in lanes.glob(f"*/{_RECORD}"):
        with suppress(OSError, ValueError):
            pid, start_time = path.read_text().split()
            yield int(pid), int(start_time)


def _living() -> list[_Process]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                numbers = [int(fields[n]) for n in (2, 3, 19)]
                found.append(_Process(int(path.parent.name), *numbers))
    return found


def _is_led(process: _Process, leaders: dict[int, int]) -> bool:
    """Whether a recorded leader is the process, or was the leader of its session and group.

    While a group has members, no new process gets its number; members started before the recorded leader belong to an
    older group of that number.
    """
    start_time = leaders.get(process.group)
    if start_time is None or process.session != process.group:
        return False
    if process.pid == process.group:
        return process.start_time == start_time
    leader = _start_time(process.group)
    return process.start_time >= start_time and leader in (None, start_time)


def _start_time(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return None


def _user_of(pid: int) -> int | None:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Uid:")).split()[1])
    return None


def _is_marked(pid: int, marker: bytes) -> bool:
    """Whether it was forked with the marker, or started with a home under it."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        is_fork = len(arguments) > 4 and arguments[1].endswith(b"/launch.py") and arguments[4] == marker
        return is_fork or b"HOME=" + marker + b"/" in (process / "environ").read_bytes()
    return False


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(_WAIT_SECONDS * 1000)
        finally:
            os.close(pidfd)
