"""A lock per key, and a gate."""

from __future__ import annotations

import asyncio
import gc

import pytest

from devkit_api.errors import Unavailable
from devkit_api.locks import Gate, KeyedLocks
from tests.support.waiting import until_async


async def test_tasks_of_one_key_go_one_at_a_time_and_those_of_another_do_not_wait() -> None:
    locks, inside, go_on = KeyedLocks(), [], asyncio.Event()

    async def work(key: str, name: str) -> None:
        async with locks.of(key):
            inside.append(name)
            await go_on.wait()

    async with asyncio.TaskGroup() as group:
        for key, name in (("a", "first"), ("a", "second"), ("b", "other")):
            group.create_task(work(key, name))
        await until_async(lambda: "other" in inside)
        assert inside == ["first", "other"]
        go_on.set()
    assert inside == ["first", "other", "second"]


async def test_nothing_is_kept_of_a_key_that_nobody_works_on() -> None:
    locks = KeyedLocks()
    async with locks.of("a"):
        assert locks.of("a").locked()
        assert len(locks) == 1
    gc.collect()
    assert len(locks) == 0


async def test_a_gate_closes_behind_who_is_inside_and_opens_for_who_waits() -> None:
    gate, told, leave, reopen = Gate(), [], asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        with gate.entered():
            await leave.wait()
            told.append("left")

    async def close(name: str) -> None:
        async with gate.closed():
            told.append(f"closed by {name}")
            await reopen.wait()

    async def wait() -> None:
        async with gate.entered_when_open():
            told.append("entered")

    async with asyncio.TaskGroup() as group:
        for work in (stay(), close("one"), close("another"), wait()):
            group.create_task(work)
        await until_async(lambda: gate.is_closed)
        with pytest.raises(Unavailable), gate.entered():
            pass
        assert told == []
        leave.set()
        await until_async(lambda: "closed by one" in told)
        assert told == ["left", "closed by one"]
        reopen.set()
    assert sorted(told) == ["closed by another", "closed by one", "entered", "left"]
    assert not gate.is_closed
