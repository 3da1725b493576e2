"""The embedded PostgreSQL and its migrations, through real devkit processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import psutil
import psycopg2
import pytest

from devkit_api.database import embedded, lifetime
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.migrate import Migration, migrate, shipped
from devkit_api.database.target import Target
from devkit_api.settings import SettingsError
from tests.catalogs.conftest import command
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until, until_async

pytestmark = pytest.mark.process

Make = Callable[..., DevkitProcess]
NAMES = ("db_name", "db_user", "db_password")


def _query(devkit: DevkitProcess, statement: str) -> list[tuple[Any, ...]]:
    target = EmbeddedPostgres(devkit.state / "postgres").target
    connection = psycopg2.connect(**target.owner())
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def _server(devkit: DevkitProcess) -> psutil.Process:
    return psutil.Process(int((devkit.state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0]))


def test_data_survives_a_stop_and_a_kill_and_no_server_is_left(make_devkit: Make) -> None:
    devkit = make_devkit(catalogs="on").start()
    made_at = _query(devkit, "SELECT created_at FROM devkit.catalogs")
    assert len(made_at) == 1
    server = _server(devkit)
    assert devkit.stop() == 0
    assert not server.is_running()

    devkit.start()
    server = _server(devkit)
    devkit.kill()
    # The pipe closed with the devkit: the server stops by itself, or the next devkit's start waits for it.
    devkit.start()
    until(lambda: not server.is_running())  # its keeper collects it a moment later
    assert _query(devkit, "SELECT created_at FROM devkit.catalogs") == made_at
    server = _server(devkit)
    devkit.kill()
    assert server.wait(timeout=PATIENCE) is None or not server.is_running()


def test_unclean_stop_of_the_server_itself_is_recovered(make_devkit: Make) -> None:
    devkit = make_devkit(catalogs="on").start()
    made_at = _query(devkit, "SELECT created_at FROM devkit.catalogs")
    server = _server(devkit)
    slow = next(child for child in server.children() if "checkpointer" in child.cmdline()[0])
    slow.suspend()  # a child that does not notice the end of its server yet: no other starts beside it
    server.kill()
    devkit.kill()
    try:
        with ThreadPoolExecutor(1) as thread:
            starting = thread.submit(devkit.start)
            until(lambda: starting.done() or _is_told_to_quit(slow))
            slow.resume()
            starting.result()
    finally:
        with suppress(psutil.NoSuchProcess):
            slow.kill()
    assert _query(devkit, "SELECT created_at FROM devkit.catalogs") == made_at


async def test_a_server_that_ended_by_itself_leaves_nothing_that_stops_the_next_one(folder: Path) -> None:
    """What waits for the end of its devkit would stop the server it finds then, whoever has started it."""
    former, later = (EmbeddedPostgres(folder / "successive") for _ in range(2))
    await former.start()
    keeper = former._keeper
    assert keeper is not None
    assert keeper.stdin is not None
    os.kill(int((former.data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    await asyncio.to_thread(keeper.wait, PATIENCE)
    await later.start()
    try:
        keeper.stdin.close()
        await until_async(lambda: not _of_session(keeper.pid))
        assert later.is_running
    finally:
        await later.stop()


def _of_session(leader: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def _is_told_to_quit(process: psutil.Process) -> bool:
    """Whether SIGQUIT waits for a process that is suspended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (pending,) = (line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(pending, 16) & 1 << (signal.SIGQUIT - 1))


def test_devkits_that_start_together_make_the_user_of_the_server_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two times another has the files of users; then it has made the user."""
    calls = tmp_path / "calls"
    calls.touch()
    _write_useradd(tmp_path, f"echo >>{calls}; case $(wc -l <{calls}) in 1) exit 1;; 2) exit 10;; *) exit 9;; esac")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(embedded, "_has_system_user", lambda: calls.read_text().count("\n") == 3)
    embedded._ensure_system_user()
    _write_useradd(tmp_path, f"echo >>{calls}; exit 3")
    with pytest.raises(SettingsError, match="make a system user"):
        calls.write_text("")
        embedded._ensure_system_user()
    assert calls.read_text().count("\n") == 1


def _write_useradd(folder: Path, script: str) -> None:
    (folder / "useradd").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "useradd").chmod(0o755)


def test_server_listens_on_a_private_socket_alone(catalog_devkit: DevkitProcess, target: Target) -> None:
    listening = [c for c in _server(catalog_devkit).net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []
    socket = Path(target.host) / ".s.PGSQL.5432"
    assert socket.stat().st_mode & 0o077 == 0


def test_catalogs_off_starts_no_server_and_says_so(make_devkit: Make) -> None:
    with make_devkit(catalogs="off") as devkit:
        answer = devkit.request("GET", "/v1/data-catalogs")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "CATALOGS_OFF")
        until(lambda: devkit.request("GET", "/v1/system/ready").status_code == 200)
        assert "database" not in devkit.request("GET", "/v1/system/health").json()["services"]
        assert not (devkit.state / "postgres").exists()


def test_data_of_another_postgres_version_is_refused_with_advice(make_devkit: Make) -> None:
    devkit = make_devkit(catalogs="on").start()
    devkit.stop()
    version = devkit.state / "postgres" / "data" / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(AssertionError, match="PostgreSQL 16 made it"):
        devkit.start()


def test_external_database_is_used_and_none_is_embedded(
    make_devkit: Make, external: dict[str, str], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("sample,peptide,intensity,alleles\nS1,GILGFVFTL,1,A*02:01\n")
    with make_devkit(catalogs="on", **external) as devkit:
        catalogs = devkit.request("GET", "/v1/api/data-catalogs").json()["catalogs"]
        assert [catalog["isDemo"] for catalog in catalogs] == [True]
        answer = devkit.request(
            "POST",
            "/v1/api/data/alithea-bio/immunopeptidomics/query",
            json={"sql": "SELECT count(*) AS n FROM peptides"},
        )
        assert answer.json()["data"] == [{"n": 59}]
        # Its owner is no superuser: what is open to every role there is kept shut by the parser.
        for sql in ("SELECT pg_sleep(60)", 'SELECT U&"pg\\005fsleep"(60)', "SELECT set_config('a.b', 'c', false)"):
            refused = devkit.request("POST", "/v1/api/data/alithea-bio/immunopeptidomics/query", json={"sql": sql})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "SQL_REFUSED"), sql
        done = command(devkit, "catalog", "import", str(rows), "--catalog", "mine")
        assert done.returncode == 0, done.stderr
        # What another process adds is seen a moment later.
        until(lambda: len(devkit.request("GET", "/v1/api/data-catalogs").json()["catalogs"]) == 2)
        assert devkit.request("POST", "/v1/devkit/reset").status_code == 200
        (left,) = devkit.request("GET", "/v1/api/data-catalogs").json()["catalogs"]
        assert left["currentVersion"]["rowCounts"]["peptides"] == 59
        assert not (devkit.state / "postgres").exists()


def test_external_database_that_cannot_be_used_stops_the_start(make_devkit: Make, external: dict[str, str]) -> None:
    devkit = make_devkit(catalogs="on", **{**external, "db_password": "another-password-0123"})
    with pytest.raises(AssertionError, match="DEVKIT_DB_HOST"):
        devkit.start()
    assert "another-password" not in devkit.log_text()


async def test_a_server_that_refuses_us_is_asked_once_and_one_that_starts_again(
    external: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Target] = []

    def count(target: Target) -> int:
        asked.append(target)
        if len(asked) == 3:
            raise psycopg2.OperationalError("FATAL:  the database system is starting up")
        return migrate(target)

    monkeypatch.setattr(lifetime, "migrate", count)
    right = Target(external["db_host"], int(external["db_port"]), *(external[n] for n in NAMES))
    for wrong in (attrs.evolve(right, password="another-password-0123"), attrs.evolve(right, name="nowhere")):
        with pytest.raises(SettingsError, match="DEVKIT_DB_HOST"):
            await lifetime.prepare(wrong)
    assert len(asked) == 2
    await lifetime.prepare(right)
    assert len(asked) == 4


def test_health_names_the_database(catalog_devkit: DevkitProcess) -> None:
    # A part that does not answer within two seconds is not well at that moment.
    until(lambda: catalog_devkit.request("GET", "/v1/system/health").json()["services"]["database"] == "ok")


def test_migrations_are_recorded_and_a_changed_history_is_refused(target: Target) -> None:
    assert migrate(target) == 0
    with pytest.raises(SettingsError, match="newer devkit"):
        migrate(target, shipped()[:1])
    changed = [attrs.evolve(shipped()[0], text="SELECT 1"), *shipped()[1:]]
    with pytest.raises(SettingsError, match="is not the one"):
        migrate(target, changed)


def test_failing_migration_leaves_nothing(target: Target, independent: Callable[..., list[tuple[Any, ...]]]) -> None:
    broken = Migration(9999, "9999_broken.sql", "CREATE TABLE devkit.half (x int); SELECT 1/0")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(target, [*shipped(), broken])
    assert independent("SELECT to_regclass('devkit.half')") == [(None,)]
    assert independent("SELECT count(*) FROM public.devkit_migrations WHERE number = 9999") == [(0,)]
    assert independent("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
