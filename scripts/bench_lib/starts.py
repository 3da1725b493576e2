"""From the command to the first answer, and the server's memory when nothing happens."""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from bench_lib import servers
from bench_lib.plan import Plan
from bench_lib.report import Row

READY_SECONDS = 1.5
IDLE_BYTES = 90_000_000
_SETTLED_BYTES = 100_000
_MOST_READINGS = 30


def starts(plan: Plan) -> list[Row]:
    """Start to ready, and idle memory, of a devkit that has started before: its database made, its bytecode cached."""
    seconds, resident = [], []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        with servers.devkit(root, pinned=False) as first:
            servers.call(first, "GET", "/v1/modules")
        for _ in range(max(3, plan.rounds)):
            began = perf_counter()
            with servers.devkit(root, pinned=False) as devkit:
                seconds.append(perf_counter() - began)
                servers.call(devkit, "GET", "/v1/modules")
                resident.append(_idle_bytes(devkit))
    ready, idle = statistics.median(seconds), statistics.median(resident)
    times = f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} starts; until requests are answered"
    sizes = f"{min(resident) / 1e6:.1f} to {max(resident) / 1e6:.1f} MB; resident memory of the server's process alone"
    return [
        Row("Start to ready, embedded database made before", f"{ready:.2f} s", f"≤ {READY_SECONDS} s",
            ready <= READY_SECONDS, times, {"seconds": ready, "lowest": min(seconds), "highest": max(seconds)}),
        Row("Idle memory of the server", f"{idle / 1e6:.1f} MB", f"≤ {IDLE_BYTES // 1_000_000} MB", idle <= IDLE_BYTES,
            sizes, {"bytes": idle}),
    ]  # fmt: skip


def _idle_bytes(devkit: servers.Server) -> int:
    """Once it no longer grows: what a start leaves for later is done then."""
    before = devkit.resident_bytes
    for _ in range(_MOST_READINGS):
        sleep(0.5)
        now = devkit.resident_bytes
        if abs(now - before) < _SETTLED_BYTES:
            return now
        before = now
    raise RuntimeError("the memory of a server without requests does not settle")
