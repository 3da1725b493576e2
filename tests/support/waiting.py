"""Waiting for a state, never for a time. The bounds are for a machine that is ten times slower and busy besides."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Seconds until a test gives up on what should have happened long before.
PATIENCE = 180.0
# Linux gives connections their own ports from 32768 on: a port from below is not taken between two uses of it.
_PORTS = range(20_000, 32_000)
_given: set[int] = set()


def until(probe: Callable[[], T | None], within: float = PATIENCE) -> T:
    """What `probe` returns, once that is something."""
    began = time.monotonic()
    while not (found := probe()):
        # Another process, or a thread of a library, does not tell when its state changes: it is asked again.
        time.sleep(_pause(time.monotonic() - began, within, found))
    return found


async def until_async(probe: Callable[[], T | None], within: float = PATIENCE) -> T:
    """`until` for what happens in this loop or beside it."""
    began = time.monotonic()
    while not (found := probe()):
        # A file system or a thread does not tell when its state changes: it is asked again.
        await asyncio.sleep(_pause(time.monotonic() - began, within, found))
    return found


def _pause(waited: float, within: float, found: object) -> float:
    """Seconds until it is asked again: seldom when it takes long, as questions cost others their time."""
    assert waited < within, f"it did not happen within {within:g} s; last seen: {found!r}"
    return min(max(waited / 8, 0.02), 0.25)


def free_port() -> int:
    """A loopback port for a server that has to come back to it, or that takes no port 0.

    It may be used long after: no other call gets it, in this process or in one that tests beside it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = _PORTS[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    for port in random.sample(ours, len(ours)):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise AssertionError("no port is free")
