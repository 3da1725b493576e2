"""What aiopg leaves to its users, in a pool against a real server."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from devkit_api.database import pool as pool_module
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.database.target import Target
from devkit_api.errors import Unavailable
from tests.support.waiting import PATIENCE, until_async


async def test_a_connection_closed_twice_leaves_the_next_file_of_its_number_alone(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled statement closes its connection; until that is given back, the number may be another file's."""
    pool, loop = Pool(target.owner(), 1, 60), asyncio.get_running_loop()
    await pool.open()
    lent: list[tuple[object, int]] = []
    reads, _writes = pipe = os.pipe()
    stop_backend = pool.stop_backend

    async def and_another_file_comes(pid: int) -> None:
        await stop_backend(pid)
        os.dup2(reads, lent[0][1])
        loop.add_reader(lent[0][1], lambda: None)

    async def slow() -> None:
        async with pool.cursor() as cursor:
            lent.append((cursor.connection, cursor.connection.raw.fileno()))
            await cursor.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(pool, "stop_backend", and_another_file_comes)
    try:
        working = asyncio.create_task(slow())
        await until_async(lambda: lent and lent[0][0].isexecuting())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        number = lent[0][1]
        assert loop.remove_reader(number), "the loop no longer reads the other file"
        os.close(number)
        assert await fetch(pool, "SELECT 1") == [(1,)]
    finally:
        await pool.close()
        for number in pipe:
            os.close(number)


async def test_who_was_woken_and_goes_away_wakes_the_next(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_ACQUIRE_SECONDS", PATIENCE)
    pool = Pool(target.owner(), 1, 60)
    await pool.open()
    try:
        connection = await pool.acquire()
        first, second = [asyncio.create_task(fetch(pool, "SELECT 1")) for _ in range(2)]
        await until_async(lambda: len(pool._pool._cond._waiters) == 2)
        pool.give_back(connection)
        await asyncio.sleep(0)  # in which the first is woken, and has not run yet
        first.cancel()
        assert await second == [(1,)]
        assert pool.counts.refused == 0
    finally:
        await pool.close()


async def test_a_server_that_gives_no_answer_is_unavailable(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it is cut off without a word: its own limit for the statement does not come through either."""
    pool = Pool(target.owner(), 1, 60)
    await pool.open()
    monkeypatch.setattr(pool, "_statement_seconds", -4.9)
    try:
        for ask in (fetch, write):
            with pytest.raises(Unavailable):
                await ask(pool, "SELECT pg_sleep(60)")
        assert pool.in_use == 0
    finally:
        await pool.close()


async def test_a_connection_comes_back_to_a_pool_that_was_closed_and_opened_again(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_CLOSE_SECONDS", 0.01)
    pool = Pool(target.owner(), 1, 60)
    await pool.open()
    async with pool.cursor():
        await pool.close()
        await pool.open()
    try:
        assert await fetch(pool, "SELECT 1") == [(1,)]
        assert (pool.stats().open, pool.in_use) == (1, 0)
    finally:
        await pool.close()


async def test_one_that_the_server_closes_before_it_is_lent_is_passed_over(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free one, and one that is just being made for who asks."""
    pool, loop = Pool(target.owner(), 2, 60), asyncio.get_running_loop()
    await pool.open()
    closed: list[int] = []

    async def end(connection: Any) -> None:
        closed.append(connection.raw.fileno())
        await pool.stop_backend(connection.raw.get_backend_pid())
        await until_async(lambda: connection.closed)

    fill = pool._pool._fill_free_pool

    async def fill_and_lose(override_min: bool) -> None:
        await fill(override_min)
        if len(closed) == 1:
            await end(pool._pool._free[0])

    monkeypatch.setattr(pool._pool, "_fill_free_pool", fill_and_lose)
    try:
        await end(pool._pool._free[0])
        assert await fetch(pool, "SELECT 1") == [(1,)]
        assert len(closed) == 2
        in_use = {connection.raw.fileno() for connection in pool._pool._free}
        assert not [number for number in closed if number not in in_use and loop.remove_reader(number)]
        assert (pool.in_use, pool.counts.refused) == (0, 0)
    finally:
        await pool.close()
