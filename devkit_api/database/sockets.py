"""Repairs of aiopg, which mixes up sockets that were closed with the next files of their numbers.

When a connection fails while something is being written to it, as when nobody listens, aiopg takes back what it asked
of the loop for reading alone. The number of the socket is then given to the next file the process opens, a pipe of a
run as well as another connection, and the loop (uvloop above all) takes that for the old one, and refuses it.

And a connection that is closed once more takes the number from the loop once more, whoever has it by then.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiopg.connection import Connection

_ready, _close = Connection._ready, Connection._close


def _ready_and_tidy(weak: Any) -> None:
    """What the loop calls when the socket can be used; a socket that was closed in it is forgotten at once.

    Before anything else runs in this thread, so nobody can have registered another file of that number yet.
    """
    connection = weak()
    if connection is None:
        return
    number = connection._fileno
    _ready(weak)
    if number is not None and (connection.raw.closed or connection._fileno is None):
        forget(connection._loop, number)
        connection._fileno = None


def _close_and_forget(connection: Connection) -> None:
    """Close; from now on the number of the socket is none of its business."""
    _close(connection)
    connection._fileno = None


def forget(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Take back everything that was asked of the loop for a socket."""
    for take_back in (loop.remove_reader, loop.remove_writer):
        with suppress(OSError, ValueError, RuntimeError):
            take_back(number)


def repair() -> None:
    """For every connection made from now on."""
    setattr(Connection, "_ready", staticmethod(_ready_and_tidy))  # noqa: B010  mypy knows it as a method
    setattr(Connection, "_close", _close_and_forget)  # noqa: B010
