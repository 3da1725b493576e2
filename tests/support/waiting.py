"""Waiting for a state, never for a time. The bounds are for a machine that is ten times slower and busy besides."""

from __future__ import annotations

import asyncio
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
    """A loopback port for a server that has to come back to it, or that takes no port 0. No other test gets it."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if not _reserve(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


# For as long as this process lives: between two uses a port looks free to the tests that run beside.
_reserved: list[socket.socket] = []


def _reserve(port: int) -> bool:
    """Whether this process may use a port. By a name that the kernel gives to one, and takes back when that ends."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0hla-compass-devkit-tests-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True
