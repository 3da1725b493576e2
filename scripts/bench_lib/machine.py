"""One core for the servers and one for the clients, where the machine has two."""

from __future__ import annotations

import os


def cores() -> tuple[set[int], set[int]]:
    """Cores for servers and for clients; the same ones when there is only one, or pinning is not possible."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return set(available), set(available)
    return {available[0]}, set(available[1:])


def pin(pid: int, chosen: set[int]) -> None:
    """Keep a process, and what it starts, on these cores."""
    if chosen:
        os.sched_setaffinity(pid, chosen)
