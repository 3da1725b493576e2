"""Documents in PostgreSQL: what a database can do to them, and whose they are."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import uvloop
from tenacity import wait_fixed

from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.lifetime import prepare as prepare_catalogs
from devkit_api.database.migrate import migrate
from devkit_api.database.pool import Pool
from devkit_api.database.target import Target
from devkit_api.settings import SettingsError
from devkit_api.state import StateError, StoreLocked
from devkit_api.state.binding import bind, check_bound, check_database, check_files
from devkit_api.state.postgres import ownership, session, writes
from devkit_api.state.postgres.schema import HISTORY, prepare
from devkit_api.state.postgres.store import PostgresStore
from tests.state.conftest import asking, restart, start
from tests.support.waiting import PATIENCE, until, until_async

Ask = Callable[..., list[tuple[Any, ...]]]
Server = tuple[EmbeddedPostgres, int]
# The server's own processes work in a database as well, and may be ended by its superuser alone.
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    " AND backend_type = 'client backend'"
)
LOCKED_BY = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 4100 AND objid = 1 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
DOCUMENTS = "SELECT key, document->>'n' FROM devkit_state.documents ORDER BY key"


@pytest.fixture
async def store(target: Target, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    monkeypatch.setattr(session, "_ANSWER_SECONDS", PATIENCE)  # a busy server is not one that is away
    made = PostgresStore(target)
    await made.open()
    yield made
    await made.close()


def end_sessions(ask: Ask, pids: list[tuple[Any, ...]]) -> None:
    """They are gone when this returns, and what they had locked is free."""
    for (pid,) in pids:
        ask("SELECT pg_terminate_backend(%s)", pid)
    until(lambda: not ask("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [pid for (pid,) in pids]))


async def test_nothing_acknowledged_is_lost_when_the_server_restarts(
    store: PostgresStore, postgres: Server, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "PATIENCE", PATIENCE)  # a restart takes its time on a busy machine
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def write(number: int) -> None:
        count = 0
        while not stop.is_set():
            key = f"r-{number}-{count}"
            await store.put("runs", key, {"n": count})
            acknowledged.append(key)
            count += 1

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    for _ in range(2):
        so_far = len(acknowledged)
        await until_async(lambda so_far=so_far: len(acknowledged) > so_far + 50)
        await restart(postgres)
    so_far = len(acknowledged)
    await until_async(lambda: len(acknowledged) > so_far + 50)
    stop.set()
    await asyncio.gather(*writers)
    assert {key async for key, _ in store.scan("runs")} == set(acknowledged)
    assert store.ownership.lost is None
    other = PostgresStore(target)

    async def is_refused() -> bool:
        try:
            await other.open()
        except StoreLocked:
            return True
        raise AssertionError("the lock was not taken again")

    with asking(target) as ask:  # a session that is open does not have the lock yet
        await until_async(lambda: ask(LOCKED_BY))
    assert await is_refused()
    assert store.ownership.epoch == 1


@pytest.mark.parametrize("make_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_refused_connection_leaves_nothing_with_the_event_loop(make_loop: Callable[[], Any]) -> None:
    """Its socket's number goes to the next file: a pipe of a run, which must be read."""

    async def connect_and_read(port: int) -> None:
        pool = Pool(Target("127.0.0.1", port, "x", "x", "x").owner(), 1, 1)
        loop, read = asyncio.get_running_loop(), asyncio.Event()
        for _ in range(3):
            with pytest.raises(psycopg2.OperationalError):
                await pool.open()
        pipes = [os.pipe() for _ in range(5)]
        for reads, writes_to in pipes:
            read.clear()
            loop.add_reader(reads, read.set)
            os.write(writes_to, b"x")
            await asyncio.wait_for(read.wait(), PATIENCE)
            loop.remove_reader(reads)
            os.close(reads)
            os.close(writes_to)

    with asyncio.Runner(loop_factory=make_loop) as runner, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        runner.run(connect_and_read(closed.getsockname()[1]))


async def test_a_write_whose_connection_is_cut_is_sent_again(store: PostgresStore, target: Target, ask: Ask) -> None:
    """Cut while it commits, nobody knows what became of it: it must neither be lost nor refused."""
    await store.put("runs", "a", {"n": 1})
    blocker = psycopg2.connect(**target.owner())
    blocker.cursor().execute("SELECT * FROM devkit_state.owner FOR UPDATE")
    writing = asyncio.create_task(store.put("runs", "a", {"n": 2}))
    pids = await until_async(lambda: ask(WAITING))
    end_sessions(ask, pids)
    again = await until_async(lambda: [pid for pid in ask(WAITING) if pid not in pids])
    assert again, "sent again on another connection"
    assert not writing.done()
    blocker.rollback()
    blocker.close()
    await writing
    assert await store.get("runs", "a") == {"n": 2}


async def test_a_write_of_unknown_outcome_is_not_given_up_and_later_ones_are(
    store: PostgresStore, postgres: Server, target: Target, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "PATIENCE", 0.2)
    blocker = psycopg2.connect(**target.owner())
    blocker.cursor().execute("SELECT * FROM devkit_state.owner FOR UPDATE")
    writing = asyncio.create_task(store.put("runs", "a", {"n": 1}))
    await until_async(lambda: ask(WAITING))
    # Sessions are cut in the middle of their statements, none gives up its locks: an orderly stop may end the blocker's
    # first, and the write goes through.
    psutil.Process(int((postgres[0].data / "postmaster.pid").read_text().split()[0])).send_signal(signal.SIGQUIT)
    await postgres[0].stop()
    try:
        with pytest.raises(StateError, match="does not answer"):
            await asyncio.wait_for(store.put("runs", "b", {}), PATIENCE)
        assert not writing.done(), "neither stored nor refused may be said of it"
    finally:
        blocker.close()
        await start(postgres)
    await asyncio.wait_for(writing, PATIENCE)
    assert [item async for item in store.scan("runs")] == [("a", {"n": 1})]


async def test_a_document_the_server_refuses_is_refused_after_an_unknown_outcome_too(
    store: PostgresStore, target: Target, ask: Ask
) -> None:
    """It was refused the first time as well. The check is the test's."""
    ask("ALTER TABLE devkit_state.documents ADD CHECK (document->>'n' <> 'bad')")
    blocker = psycopg2.connect(**target.owner())
    blocker.cursor().execute("SELECT * FROM devkit_state.owner FOR UPDATE")
    writing = [asyncio.create_task(store.put("runs", key, {"n": key})) for key in ("bad", "good")]
    pids = await until_async(lambda: ask(WAITING))
    end_sessions(ask, pids)
    await until_async(lambda: [pid for pid in ask(WAITING) if pid not in pids])
    blocker.rollback()
    blocker.close()
    with pytest.raises(StateError, match="violates check constraint"):
        await asyncio.wait_for(writing[0], PATIENCE)
    await asyncio.wait_for(writing[1], PATIENCE)
    assert ask(DOCUMENTS) == [("good", "good")]


async def test_writes_are_refused_while_there_is_no_server(
    store: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("runs", "a", {"n": 1})
    await postgres[0].stop()
    try:
        with monkeypatch.context() as patch:  # what comes after it has the usual patience
            patch.setattr(writes, "PATIENCE", 0.2)
            with pytest.raises(StateError, match="does not answer"):
                await asyncio.wait_for(store.put("runs", "a", {"n": 2}), PATIENCE)
    finally:
        await start(postgres)
    assert await store.get("runs", "a") == {"n": 1}
    await store.put("runs", "a", {"n": 3})
    assert await store.get("runs", "a") == {"n": 3}


async def test_what_the_server_cannot_store_is_refused_and_the_old_document_stays(
    store: PostgresStore, ask: Ask
) -> None:
    """As a full disk does it; the trigger is the test's."""
    await store.put("runs", "a", {"n": 1})
    ask("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'No space left' USING ERRCODE = 'disk_full'; END $$")  # fmt: skip
    ask("CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON devkit_state.documents"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()")  # fmt: skip
    with pytest.raises(StateError, match="No space left"):
        await store.put("runs", "a", {"n": 2})
    assert await store.get("runs", "a") == {"n": 1}
    ask("DROP TRIGGER no_space ON devkit_state.documents")
    await store.put("runs", "a", {"n": 3})
    assert ask(DOCUMENTS) == [("a", "3")]


async def test_a_devkit_that_was_taken_over_writes_no_more(
    store: PostgresStore, target: Target, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not notice: its session is gone, its writing connection is not."""
    monkeypatch.setattr(ownership, "_LOOK_SECONDS", 3600)
    first = PostgresStore(target)
    await store.close()
    await first.open()
    await first.put("runs", "a", {"n": 1})
    told: list[str] = []
    first.ownership.on_lost = told.append
    end_sessions(ask, ask(LOCKED_BY))
    await store.open()
    await store.put("runs", "a", {"n": 2})
    for _ in range(2):
        with pytest.raises(StateError, match="taken over"):
            await first.put("runs", "a", {"n": 3})
    with pytest.raises(StateError, match="taken over"):
        await first.delete("runs", "a")
    assert ask(DOCUMENTS) == [("a", "2")]
    assert len(told) == 1
    await first.close()
    await store.put("runs", "b", {})


async def test_a_devkit_that_was_taken_over_notices_without_writing(
    target: Target, ask: Ask, store: PostgresStore
) -> None:
    lost = asyncio.get_running_loop().create_future()
    store.ownership.on_lost = lost.set_result
    ask("UPDATE devkit_state.owner SET epoch = epoch + 1, holder = 'someone else, process 1'")
    reason = await asyncio.wait_for(lost, PATIENCE)
    assert "someone else, process 1" in reason
    assert target.password is not None
    assert target.password not in reason


async def test_a_database_that_does_not_tell_whose_the_state_is_says_why(
    target: Target, ask: Ask, store: PostgresStore
) -> None:
    """It answers all the same: this is nothing to wait out."""
    lost = asyncio.get_running_loop().create_future()
    store.ownership.on_lost = lost.set_result
    ask("REVOKE SELECT ON devkit_state.owner FROM CURRENT_USER")
    assert "permission denied for table owner" in await asyncio.wait_for(lost, PATIENCE)
    for taking in (PostgresStore(target).open, lambda: PostgresStore(target).ownership.stand_by(lambda _: None)):
        with pytest.raises(SettingsError, match="permission denied for table owner"):
            await asyncio.wait_for(taking(), PATIENCE)


async def test_whoever_takes_over_waits_for_a_write_that_is_being_committed(
    store: PostgresStore, target: Target, ask: Ask
) -> None:
    """Else it could read the documents before that write, and go on without it."""
    committing = psycopg2.connect(**target.owner())
    epoch = {"epoch": store.ownership.epoch, "state": store.ownership.mark.state_id}
    batch = {"collections": ["runs"], "keys": ["late"], "documents": ['{"n": 1}']}
    with committing.cursor() as cursor:
        cursor.execute(writes._CHANGE, {**epoch, **batch})
        assert cursor.fetchone() == (1,)
    end_sessions(ask, ask(LOCKED_BY))
    await store.close()
    second = PostgresStore(target)
    opening = asyncio.create_task(second.open())
    await until_async(lambda: ask(WAITING))
    committing.commit()
    committing.close()
    await opening
    assert [key async for key, _ in second.scan("runs")] == ["late"]
    await second.close()
    await store.open()


async def test_a_lost_session_is_opened_again(store: PostgresStore, target: Target, ask: Ask) -> None:
    [before] = ask(LOCKED_BY)
    end_sessions(ask, [before])
    await until_async(lambda: [pid for pid in ask(LOCKED_BY) if pid != before])
    assert store.ownership.lost is None
    with pytest.raises(StoreLocked):
        await PostgresStore(target).open()
    await store.put("runs", "a", {})


async def test_a_standby_takes_over_when_the_owner_ends(store: PostgresStore, target: Target) -> None:
    second = PostgresStore(target)
    told: list[str] = []
    standing = asyncio.create_task(second.ownership.stand_by(told.append))
    await until_async(lambda: told)
    assert target.name in told[0]
    assert not standing.done()
    await store.put("runs", "a", {})
    await store.close()
    await asyncio.wait_for(standing, PATIENCE)
    await second.open()
    assert second.ownership.epoch == 2
    assert await second.get("runs", "a") == {}
    await second.close()
    await store.open()


async def test_a_standby_outlives_a_restart_and_lets_the_owner_go_first(
    store: PostgresStore, postgres: Server, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The owner has the whole of the standby's courtesy, not what a long pause between two of its tries leaves of it.
    monkeypatch.setattr(ownership, "wait_random_exponential", lambda *_, **__: wait_fixed(0.05))
    second = PostgresStore(target)
    told: list[str] = []
    standing = asyncio.create_task(second.ownership.stand_by(told.append))
    await until_async(lambda: told)
    await restart(postgres)
    so_far = len(told)
    await until_async(lambda: len(told) > so_far)
    assert not standing.done()
    assert store.ownership.lost is None
    await store.put("runs", "a", {})
    standing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await standing


async def test_writes_are_durable_where_the_database_says_otherwise(
    target: Target, ask: Ask, store: PostgresStore
) -> None:
    await store.close()
    ask(f"ALTER DATABASE {target.name} SET synchronous_commit = off")
    await store.open()
    async with store._writes.cursor() as cursor:
        await cursor.execute("SHOW synchronous_commit")
        assert await cursor.fetchall() == [("on",)]


async def test_the_role_of_users_sql_sees_nothing_of_it(store: PostgresStore, target: Target) -> None:
    await prepare_catalogs(target)
    await store.put("runs", "a", {"secret": "fake"})
    connection = psycopg2.connect(**target.reader())
    for statement in (
        "SELECT * FROM devkit_state.documents", "SELECT epoch FROM devkit_state.owner",
        "SELECT * FROM devkit_state.migrations", "SELECT 'devkit_state.documents'::regclass",
    ):  # fmt: skip
        with connection, connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'devkit_state'")
        assert cursor.fetchone() == (0,)
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%devkit_state%' AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone() == (0,)
    connection.close()


def test_the_schema_of_a_newer_devkit_is_refused(target: Target, ask: Ask) -> None:
    prepare(target)
    assert migrate(target, history=HISTORY) == 0
    assert ask("SELECT to_regclass('public.devkit_migrations')") == [(None,)], "catalogs need not be there"
    ask("INSERT INTO devkit_state.migrations (number, name, sha256) VALUES (999, 'later', 'x')")
    with pytest.raises(SettingsError, match="newer devkit"):
        prepare(target)


@pytest.mark.parametrize(
    ("foreign", "found"),
    [
        ("CREATE TABLE devkit_state.owner (x int)", 'relation "owner" already exists'),
        ("REVOKE CREATE ON SCHEMA devkit_state FROM external_owner", "permission denied for schema devkit_state"),
        (None, "its table owner is empty"),
    ],
)
async def test_a_schema_that_is_not_what_we_made_is_refused_with_what_to_do(
    target: Target, ask: Ask, foreign: str | None, found: str
) -> None:
    if foreign is None:
        prepare(target)
        ask("TRUNCATE devkit_state.owner")
    else:
        ask("CREATE SCHEMA devkit_state")
        ask(foreign)
    with pytest.raises(SettingsError) as refused:
        await PostgresStore(target).open()
    assert found in str(refused.value)
    assert "may be dropped only if" in str(refused.value)
    assert ask(LOCKED_BY) == [], "another devkit may try"


def test_a_directory_belongs_to_one_kind_of_documents(tmp_path: Path) -> None:
    check_files(tmp_path)
    check_database(tmp_path)
    bind(tmp_path, "one")
    bind(tmp_path, "one")
    with pytest.raises(SettingsError, match="another database"):
        check_bound(tmp_path, "two")
    with pytest.raises(SettingsError, match="in PostgreSQL"):
        check_files(tmp_path)
    (tmp_path / "runs" / "0a").mkdir(parents=True)
    (tmp_path / "runs" / "0a" / "a.json").write_text("{}")
    with pytest.raises(SettingsError, match="as files"):
        check_database(tmp_path)
