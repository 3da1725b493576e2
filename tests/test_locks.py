"""A lock per key."""

from __future__ import annotations

import asyncio
import gc

from devkit_api.locks import KeyedLocks
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
