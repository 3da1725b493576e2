"""What the engine meets with: a full machine, a full disk, processes that stand still. No run may pay for another."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from devkit_api.execution.execution import LocalExecution
from devkit_api.execution.protocol import StopReason
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote import handle, keeper, nursery, pool, wire
from devkit_api.execution.zygote.handle import Channel, Lost
from devkit_api.runs.failures import conclude
from tests.execution.conftest import Bench
from tests.support.waiting import PATIENCE, until_async

PLAIN = "return self.success(results={'n': 1})"


async def test_nursery_that_cannot_fork_says_so_and_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    server = keeper.Nursery(tmp_path)
    server._channel = Channel(ours, server._on_message, server._on_lost, takes_fds=True)
    served = nursery._Nursery(wire.Connection(theirs))

    def no_room() -> int:
        raise OSError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(nursery.os, "fork", no_room)
    try:
        for _ in range(2):
            hatching = asyncio.create_task(server.hatch({"namespaces": False, "door": None}))
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.to_thread(served._take_orders)
                with pytest.raises(Lost):
                    await hatching
    finally:
        server._channel.close()
        theirs.close()


@pytest.mark.parametrize("exec_", [False, True])
async def test_run_that_could_not_be_made_ready_is_the_devkits_failure_and_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, exec_: bool
) -> None:
    real = LocalExecution._order

    def order(self: LocalExecution, root: Path) -> dict[str, Any]:
        wrong = {"exec": ["/nowhere/python"]} if exec_ else {"cwd": f"{root}/nowhere"}
        return {**real(self, root), **wrong}

    module = bench.module("plain", PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(LocalExecution, "_order", order)
        outcome = (await bench.run(module)).outcome
    assert "No such file or directory" in str(outcome.problem)
    error = conclude(outcome).error
    assert error is not None
    assert error.code == "RUN_NOT_STARTED"
    assert (await bench.run(module)).results == {"n": 1}


async def test_module_that_breaks_what_runs_are_made_ready_with_is_told_so(bench: Bench) -> None:
    module = bench.module("breaking", PLAIN, prelude="import sys\nsys.modules['hla_compass.runtime.runner'] = None\n")
    for _ in range(2):
        assert "could not be made ready (ModuleNotFoundError)" in str((await bench.run(module)).outcome.problem)


async def test_exit_with_the_engines_own_code_is_the_modules(bench: Bench) -> None:
    outcome = (await bench.run(bench.module("seventy", "import os; os._exit(70)"))).outcome
    error = conclude(outcome).error
    assert error is not None
    assert (error.code, error.details) == ("RUN_NO_OUTPUT", {"exitCode": 70})


async def test_leader_that_cannot_be_noted_costs_nothing(make_bench: Any) -> None:
    """A full disk at the moment a run has begun: it goes on, and its zygote serves nobody else meanwhile."""
    bench: Bench = await make_bench(isolation="process")
    module = bench.module("plain", PLAIN)
    assert (await bench.run(module)).results == {"n": 1}
    (lane,) = bench.executor.pool.lanes
    (lane.folder / "leader").unlink()
    (lane.folder / "leader").mkdir()
    for _ in range(2):
        assert (await bench.run(module)).results == {"n": 1}


async def test_work_directory_that_is_not_as_it_was_is_made_anew(bench: Bench) -> None:
    module = bench.module("plain", PLAIN)
    assert (await bench.run(module)).results == {"n": 1}
    (lane,) = bench.executor.pool.lanes
    (lane.workdir.root / "input.json").unlink()
    for _ in range(2):
        assert (await bench.run(module)).results == {"n": 1}


async def test_work_directory_that_cannot_be_kept_does_not_change_the_end(make_bench: Any) -> None:
    bench: Bench = await make_bench(keep_workdirs=True)
    (bench.root / "work" / "devkit-run-1" / "in the way").mkdir(parents=True)
    assert (await bench.run(bench.module("plain", PLAIN))).results == {"n": 1}


async def test_run_that_had_ended_when_the_devkit_stops_is_not_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = None
    real = Workdir.finish

    async def finish(self: Workdir, *arguments: Any) -> Any:
        assert execution is not None
        execution.stop(StopReason.SHUTDOWN)
        return await real(self, *arguments)

    monkeypatch.setattr(Workdir, "finish", finish)
    execution = await bench.launch(bench.spec(bench.module("plain", PLAIN)))
    outcome = await execution.wait()
    assert (outcome.stopped, outcome.exit_code, outcome.output is not None) == (None, 0, True)


async def test_zygote_that_came_while_the_run_was_stopped_is_not_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = None
    real = bench.executor.pool.hatch

    async def hatch(kind: Any) -> Any:
        lane = await real(kind)
        assert execution is not None
        execution.stop(StopReason.CANCEL)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return lane  # it was there already

    monkeypatch.setattr(bench.executor.pool, "hatch", hatch)
    execution = await bench.launch(bench.spec(bench.module("plain", PLAIN)))
    assert (await execution.wait()).stopped is StopReason.CANCEL
    assert len(bench.executor.pool._idle) == bench.executor.pool.size


async def test_zygote_that_stands_still_is_replaced(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module("parent", "import os; return self.success(results={'zygote': os.getppid()})")
    still = (await bench.run(module)).results["zygote"]
    os.kill(still, signal.SIGSTOP)
    monkeypatch.setattr(handle, "_START_SECONDS", 0.2)
    real = handle.Zygote.kill

    def kill(zygote: handle.Zygote) -> None:
        monkeypatch.setattr(handle, "_START_SECONDS", PATIENCE)  # for the next one
        real(zygote)

    monkeypatch.setattr(handle.Zygote, "kill", kill)
    outcome = (await bench.run(module)).outcome
    assert outcome.output is not None
    assert bench.executor.pool.size == 1
    await until_async(lambda: _state(still) != "T")  # it was ended while it stood still


async def test_nursery_that_stands_still_is_replaced(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Bench = await make_bench(isolation="process")
    one, two = (bench.module(name, f"# {name}\n{PLAIN}") for name in ("one", "two"))
    assert (await bench.run(one)).results == {"n": 1}
    process = bench.executor.pool._nursery._process
    assert process is not None
    real = process.kill
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr(keeper, "_ANSWER_SECONDS", 0.2)

    def kill() -> None:
        monkeypatch.setattr(keeper, "_ANSWER_SECONDS", PATIENCE)  # for the next one
        real()

    monkeypatch.setattr(process, "kill", kill)
    assert (await bench.run(two)).results == {"n": 1}
    await until_async(lambda: _state(process.pid) != "T")


async def test_nursery_that_was_killed_is_replaced_for_all_who_come_meanwhile(make_bench: Any) -> None:
    """Its end is known before its process is: who asks in between must not be sent away."""
    bench: Bench = await make_bench(isolation="process")
    modules = [bench.module(name, f"# {name}\n{PLAIN}") for name in ("one", "two", "three")]
    assert (await bench.run(modules[0])).results == {"n": 1}
    process = bench.executor.pool._nursery._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    found = await asyncio.gather(*(bench.run(module) for module in modules))
    assert [result.results for result in found] == [{"n": 1}] * 3


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


async def test_warm_processes_are_bounded_in_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MOST_LANES", 1)
    for name in ("one", "two"):
        assert (await bench.run(bench.module(name, f"# {name}\n{PLAIN}"), module_id=name)).results == {"n": 1}
        assert bench.executor.pool.size == 1


async def test_zygotes_that_could_not_be_made_leave_no_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench.module("plain", PLAIN)
    assert (await bench.run(module)).results == {"n": 1}
    (lane,) = bench.executor.pool.lanes
    await bench.executor.pool._drop(lane)

    async def hatch(_order: dict[str, Any]) -> None:
        raise Lost

    monkeypatch.setattr(bench.executor.pool._nursery, "hatch", hatch)
    assert (await bench.run(module)).outcome.problem == "its process could not be started"
    assert not list((bench.root / "lanes").glob("[0-9]*"))


async def test_no_user_left_is_an_end_and_not_a_search_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench.module("plain", PLAIN)
    assert (await bench.run(module)).results == {"n": 1}
    monkeypatch.setattr(pool, "USERS", 1)
    (lane,) = bench.executor.pool.lanes
    monkeypatch.setattr(lane, "user", pool.FIRST_USER)
    with pytest.raises(Lost):
        bench.executor.pool._next_place()
