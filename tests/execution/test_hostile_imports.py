"""Modules that attack while they are imported, when they run in the very process the server listens to."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devkit_api.execution import orphans
from devkit_api.execution.protocol import Limits
from devkit_api.execution.zygote import confine, wire
from devkit_api.execution.zygote.handle import Lost, Zygote
from tests.execution.conftest import Bench
from tests.support.waiting import PATIENCE

FINE = {"op": "ready", "seconds": 0.5, "memory_bytes": 1024}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**FINE, "memory_bytes": "much"},
        {**FINE, "memory_bytes": -(10**18)},
        {**FINE, "memory_bytes": 10**30},
        {**FINE, "seconds": float("nan")},
        {"op": "exited", "code": "0", "signal": None, "cpu_seconds": 0, "peak_memory_bytes": 0},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_what_a_module_says_for_its_zygote_is_a_number_or_the_end_of_it(body: dict[str, object]) -> None:
    """The pool adds up what zygotes say they use: one text among the numbers, and no run would ever end."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours, theirs = socket.socketpair()
    zygote = Zygote(os.pidfd_open(child.pid), ours)
    try:
        with theirs:
            theirs.send(wire.encode(body))
            with pytest.raises(Lost):
                await asyncio.wait_for(zygote.ready, PATIENCE)
            assert zygote.is_lost
    finally:
        zygote.close()
        child.communicate()


# How many processes a user may have is counted per user. Build machines run the suite as root.
@pytest.mark.skipif(os.geteuid() != 0, reason="runs have users of their own only when root started the devkit")
async def test_an_import_cannot_fill_the_machine_with_processes(bench: Bench) -> None:
    prelude = """
    import os, signal, time
    STARTED = []
    try:
        for _ in range(1500):
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
                os._exit(0)
            STARTED.append(pid)
    except OSError:
        pass
    for pid in STARTED:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    """
    module = bench.module("breeder", "return self.success(results={'n': len(STARTED)})", prelude=prelude)
    assert 0 < (await bench.run(module)).results["n"] < 600


async def test_an_import_takes_no_more_memory_than_a_run_may(bench: Bench) -> None:
    prelude = """
    import resource
    HARD = [resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
    """
    module = bench.module("eater", "return self.success(results={'hard': HARD})", prelude=prelude)
    limits = Limits(runtime_seconds=PATIENCE, output_bytes=10_000, memory_mb=256)
    result = await bench.run(module, limits=limits)
    assert result.results["hard"] == [256 * 1024**2, 1024]
    assert result.outcome.metrics.import_seconds is not None, "it was imported ahead of the run"


# Only root could end what is not its own, and so be misled. Build machines run the suite as root.
@pytest.mark.skipif(os.geteuid() != 0, reason="it takes a process of another user")
def test_a_run_names_only_its_own_process_as_the_one_to_be_ended_later(tmp_path: Path) -> None:
    """Where the devkit is root, its next start would end any process a module calls its own."""
    lanes = tmp_path / "lanes"
    (lanes / "1").mkdir(parents=True)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        started = confine.start_time(bystander.pid)
        orphans.record(lanes / "1", bystander.pid, started, 64_101)
        assert orphans.end_orphans(lanes) == 0
        assert bystander.poll() is None
        orphans.record(lanes / "1", bystander.pid, started, 0)
        assert orphans.end_orphans(lanes) == 1
    finally:
        bystander.kill()
        bystander.communicate()
