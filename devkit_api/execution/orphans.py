"""Processes that outlived a devkit that was killed.

The kernel ends zygotes and runs with their parents. What a run had started itself is left over where runs have no
process namespace of their own. Whoever is a fork of a nursery has the lanes' folder among its arguments, whoever was
started anew has it in its environment; and one devkit at a time owns a state directory, so at its start nobody else
can have either. That names them for good, where a process id alone could be somebody else's by now.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_WAIT_SECONDS = 5.0


def end_orphans(lanes: Path) -> int:
    """Kill what is left of the runs in `lanes`, and wait until it is gone; how many there were."""
    ended = 0
    while found := list(_marked(f"{lanes}".encode())):
        for pid in found:
            _end(pid)
        ended += len(found)
    if ended:
        log.warning("processes of a devkit that was killed have been ended", extra={"count": ended})
    return ended


def _marked(marker: bytes) -> Iterator[int]:
    """Living processes that were forked with the marker, or started with a home under it."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            is_fork = len(arguments) > 4 and arguments[1].endswith(b"/launch.py") and arguments[4] == marker
            if is_fork or b"HOME=" + marker + b"/" in (process / "environ").read_bytes():
                yield int(process.name)


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
