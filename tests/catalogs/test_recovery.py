"""PostgreSQL restarted under load: only what is in flight fails, and the devkit recovers by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from devkit_api.database import pool as pool_module
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.database.target import Target
from devkit_api.errors import Unavailable
from tests.catalogs.conftest import command
from tests.catalogs.test_control_plane import Plane, submit
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until, until_async

pytestmark = pytest.mark.process

DATA = "/v1/api/data/alithea-bio/immunopeptidomics"


def _stop_server(devkit: DevkitProcess, *numbers: int) -> Callable[[], psutil.Popen]:
    """End every session and the server with these signals; what starts it again with its own settings."""
    server = EmbeddedPostgres(devkit.state / "postgres")
    process = psutil.Process(int((server.data / "postmaster.pid").read_text().splitlines()[0]))
    command, owner = process.cmdline(), process.username()
    # Its keeper goes with it; the new server stops with the devkit all the same, which goes by the folder.
    for number in numbers:
        process.send_signal(number)
    psutil.wait_procs([process], timeout=PATIENCE)

    def start() -> psutil.Popen:
        started = psutil.Popen(
            command, stdin=-3, stdout=-3, stderr=-3, start_new_session=True, cwd="/",
            **({"user": owner, "group": owner, "extra_groups": []} if os.geteuid() == 0 else {}),
        )  # fmt: skip
        assert started.is_running()
        return started

    return start


def test_restart_under_load_is_survived(make_devkit: Callable[..., DevkitProcess], tmp_path: Path) -> None:
    devkit = make_devkit(catalogs="on").start()
    token = command(devkit, "token").stdout.strip().splitlines()[-1]
    # The owner's pool is full of connections that the restart kills.
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: devkit.request("GET", DATA + "/hla-frequencies"), range(40)))
    seen: Counter[int] = Counter()
    late: Counter[int] = Counter()
    odd: list[str] = []
    restarted, done = threading.Event(), threading.Event()

    def load() -> None:
        while not done.is_set():
            answer = devkit.request("POST", DATA + "/query", json={"sql": "SELECT count(*) AS n FROM peptides"})
            (late if restarted.is_set() else seen)[answer.status_code] += 1
            if answer.status_code == 503 and not answer.headers.get("Retry-After", "").isdigit():
                odd.append(answer.text)
            if answer.status_code == 200 and answer.json()["data"] != [{"n": 59}]:
                odd.append(answer.text)
            if answer.status_code not in {200, 503}:
                odd.append(answer.text)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        started = _stop_server(devkit, signal.SIGTERM, signal.SIGINT)()  # as an operator does
        server = EmbeddedPostgres(devkit.state / "postgres")
        until(lambda: server.is_running)
        restarted.set()
        until(lambda: late[200] >= 50 or odd)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not odd, odd[:3]
    # A write is sent once, and only on a connection that lives.
    for number in range(8):
        view = {"name": f"v{number}", "sql": "SELECT 1 AS one", "providerKey": "alithea-bio"}
        answer = devkit.request(
            "POST", "/v1/data-views", key=None, headers={"Authorization": f"Bearer {token}"},
            json={**view, "catalogKey": "immunopeptidomics"},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
    assert set(seen) | set(late) <= {200, 503}
    until(lambda: devkit.request("GET", "/v1/system/ready").status_code == 200)
    connection = psycopg2.connect(**server.target.owner())
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hla-compass-devkit'")
        assert cursor.fetchone()[0] <= 16  # both pools, and this connection
    connection.close()
    assert devkit.stop() == 0
    assert started.wait(timeout=PATIENCE) == 0, "the restarted server stops with the devkit as well"


def test_jobs_outlive_a_server_that_is_away_for_a_while(
    make_devkit: Callable[..., DevkitProcess], fresh_key: str
) -> None:
    devkit = make_devkit(catalogs="on").start()
    plane = Plane(devkit, command(devkit, "token").stdout.strip().splitlines()[-1])
    server = EmbeddedPostgres(devkit.state / "postgres")

    def begin(end: str) -> tuple[str, str, str]:
        """A job whose writing waits for a lock. Only a server that ends at once gives it to nobody: one that is stopped
        in order may end the session that holds it first, and the job comes to its own end.
        """
        with psycopg2.connect(**server.target.owner()).cursor() as cursor:
            held.append(cursor.connection)
            cursor.execute("LOCK TABLE vocabulary.peptides IN SHARE MODE")
        catalog = plane.create(fresh_key + end, ingestionTables=["sample_peptide_mappings"])
        path, job = submit(plane, catalog)
        until(lambda: (plane.ok("GET", path)["progress"] or {}).get("phase") == "writing")
        return catalog, path, job["jobId"]

    held: list[Any] = []
    catalog, path, job = begin("-running")
    waiting = plane.create(fresh_key + "-waiting", ingestionTables=["sample_peptide_mappings"])
    later = submit(plane, waiting)[1]["jobId"]
    start = _stop_server(devkit, signal.SIGQUIT)
    # What became of the job could not be written: only then the server comes back.
    until(lambda: "is not available now" in devkit.log_text())
    started = start()
    until(lambda: server.is_running)
    failed = plane.ended(catalog, job)
    assert (failed["status"], failed["retryable"]) == ("failed", True)
    assert plane.ended(waiting, later)["status"] == "completed"
    body = {"stateVersion": failed["stateVersion"], "idempotencyKey": "again"}
    assert plane.ok("POST", path + "/retry", body)["outcome"] == "created"
    assert plane.ended(catalog, job)["status"] == "completed"

    # A devkit that stops while the server is away does not wait for it.
    begin("-last")
    started.send_signal(signal.SIGQUIT)
    started.wait(timeout=PATIENCE)
    assert devkit.stop() == 0


async def test_who_waits_for_a_connection_gets_the_place_of_a_cancelled_one(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_ACQUIRE_SECONDS", PATIENCE)
    pool = Pool(target.owner(), 1, 60)
    await pool.open()
    try:
        slow = asyncio.create_task(fetch(pool, "SELECT pg_sleep(60)"))
        await until_async(lambda: pool.in_use == 1)
        waiting = [asyncio.create_task(fetch(pool, "SELECT 1")) for _ in range(3)]
        await until_async(lambda: pool.counts.acquired == 4)
        slow.cancel()
        assert await asyncio.gather(*waiting) == [[(1,)]] * 3
        assert pool.counts.refused == 0
    finally:
        await pool.close()


async def test_a_write_that_was_ended_for_a_deadlock_is_sent_again(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ended it with nothing done, so it can be, unlike one whose answer was lost."""
    pool = Pool(target.owner(), 2, 60)
    await pool.open()
    real, left = pool_module.execute, [psycopg2.errors.DeadlockDetected("deadlock detected")]

    async def crosswise(cursor: Any, statement: Any, parameters: Any = None) -> None:
        if statement != "SELECT 1" and left:
            raise left.pop()
        await real(cursor, statement, parameters)

    monkeypatch.setattr(pool_module, "execute", crosswise)
    try:
        assert await write(pool, "SELECT 2") == [(2,)]
        assert left == []
        left += [psycopg2.errors.DeadlockDetected("deadlock detected")] * 20
        with pytest.raises(Unavailable):
            await write(pool, "SELECT 2")
    finally:
        await pool.close()


@pytest.mark.parametrize("lost", [psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError])
async def test_a_lost_connection_is_told_as_that_whatever_its_type(target: Target, lost: type[psycopg2.Error]) -> None:
    async def breaks(_: Any) -> None:
        raise lost("server closed the connection unexpectedly")

    async def is_wrong(_: Any) -> None:
        raise psycopg2.ProgrammingError("no results to fetch")

    pool = Pool(target.owner(), 1, 60)
    await pool.open()
    try:
        with pytest.raises(Unavailable):
            await pool.run(breaks)
        with pytest.raises(psycopg2.ProgrammingError):
            await pool.run(is_wrong)
    finally:
        await pool.close()
