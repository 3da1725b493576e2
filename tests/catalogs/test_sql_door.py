"""Users' SQL: what it can do, and everything it must not."""

# ruff: noqa: E501  statements read best on one line

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import requests
from hla_compass import APIClient
from hla_compass.data import DataAccessError

from devkit_api.catalogs.ids import DEMO_LABEL
from devkit_api.catalogs.sqlcheck import check
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.target import Target
from devkit_api.errors import DevkitError
from tests.catalogs.conftest import asking
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]
QUERY = "/v1/api/data/alithea-bio/immunopeptidomics/query"

ATTACKS = [
    # writes and definitions
    "UPDATE peptides SET mass = 1", "DELETE FROM peptides", "INSERT INTO peptides (sequence) VALUES ('AAA')",
    "TRUNCATE peptides", "DROP TABLE peptides", "CREATE TABLE x (a int)", "CREATE TEMP TABLE x AS SELECT 1",
    "SELECT * INTO x FROM peptides", "ALTER ROLE devkit_sql SUPERUSER", "GRANT ALL ON peptides TO devkit_sql",
    "WITH x AS (DELETE FROM peptides RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE peptides SET mass = 1 RETURNING *) SELECT * FROM x", "SELECT * FROM peptides FOR UPDATE",
    "SELECT nextval('vocabulary.peptides_peptide_id_seq')", "COMMENT ON TABLE peptides IS 'x'", "VACUUM", "ANALYZE",
    # several statements, transactions, session
    "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE peptides", "COMMIT; DROP TABLE peptides", "ROLLBACK", "BEGIN",
    "SET ROLE devkit", "RESET ROLE", "SET SESSION AUTHORIZATION devkit", "SET transaction_read_only = off",
    "SET statement_timeout = 0", "SET search_path = devkit", "SHOW ALL", "DISCARD ALL", "SELECT 1 /* ; */ ; COMMIT",
    "SELECT set_config('transaction_read_only', 'off', false)", "SELECT set_config('role', 'devkit', true)",
    "SELECT set_config('devkit.scope', '{1,2,3}|', true)", "SELECT pg_catalog.set_config('a.b', 'c', true)",
    "SELECT current_setting('devkit.scope')", "LOCK TABLE peptides", "LISTEN x", "NOTIFY x", "SELECT pg_notify('x', 'y')",
    # prepared statements, code, cursors
    "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE ALL", "DO $$ BEGIN PERFORM 1; END $$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DECLARE c CURSOR FOR SELECT 1", "FETCH ALL FROM c",
    "CALL x()", "EXPLAIN ANALYZE DELETE FROM peptides", "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SELECT devkit_door.open_query('SELECT 1')", "SELECT devkit_door.scope()", "SELECT devkit.sign_scope('{1}')",
    "SELECT * FROM devkit_door.drain(1, 1)", "SELECT cursor_to_xml('devkit_query', 1, true, true, '')",
    # files, network, other processes
    "COPY peptides TO '/tmp/x'", "COPY peptides TO PROGRAM 'id'", "COPY peptides FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')", "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')", "SELECT lo_export(1, '/tmp/x')", "SELECT lo_create(0)",
    "SELECT dblink('host=127.0.0.1', 'SELECT 1')", "SELECT * FROM dblink('x', 'y') AS t(a int)",
    "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)", "SELECT pg_reload_conf()", "LOAD 'x'",
    "SELECT pg_advisory_lock(4100620)", "SELECT pg_sleep(100)", "CREATE EXTENSION dblink",
    # other relations
    "SELECT * FROM information_schema.columns", "SELECT * FROM pg_catalog.pg_class", "SELECT * FROM pg_class",
    "SELECT * FROM pg_roles", "SELECT * FROM pg_shadow", "SELECT * FROM pg_settings", "SELECT * FROM pg_stat_activity",
    "SELECT * FROM devkit.secret", "SELECT * FROM devkit.catalogs", "SELECT * FROM public.devkit_migrations",
    "SELECT * FROM platform.users", 'SELECT * FROM "pg_class"', "SELECT * FROM PG_CLASS", "TABLE pg_class",
    "SELECT (SELECT count(*) FROM pg_class)", "WITH p AS (SELECT * FROM pg_authid) SELECT * FROM p",
    "SELECT 1 FROM peptides WHERE EXISTS (SELECT FROM devkit.secret)", "SELECT 'pg_class'::regclass",
    "SELECT 1 UNION SELECT 2 FROM devkit.secret", "SELECT (SELECT value FROM devkit.secret)",
    "SELECT * FROM peptides, LATERAL (SELECT * FROM pg_proc LIMIT 1) x", "SELECT pg_catalog.pg_get_viewdef(1)",
    "SELECT current_user", "SELECT version()", "SELECT current_database()", "SELECT inet_server_addr()",
    "SELECT * FROM devkit.data_views", "SELECT * FROM devkit.ingestions", "SELECT * FROM devkit.catalog_uploads",
]  # fmt: skip

# Open to every role of a server whose owner is no superuser: there the parser alone stands before them.
FOR_THE_PARSER = [
    "SELECT pg_sleep_for('1 hour')", "SELECT pg_sleep_until('2999-01-01')", 'SELECT "pg_sleep"(100)',
    "SELECT PG_SLEEP(100)", "SELECT * FROM pg_sleep(100)", "SELECT * FROM ROWS FROM (pg_sleep(100)) AS x",
    "SELECT pg_catalog.pg_sleep(100)", "SELECT 1 ORDER BY pg_sleep(1)", "VALUES (pg_sleep(1))",
    "WITH x AS (SELECT pg_sleep(100)) SELECT 1 FROM x", "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM peptides",
    "SELECT * FROM peptides p JOIN LATERAL pg_sleep(1) s ON true", "SELECT CASE WHEN true THEN pg_sleep(1) END",
    "SELECT * FROM peptides TABLESAMPLE SYSTEM (pg_sleep(1))", "SELECT 1 LIMIT (SELECT count(*) FROM pg_class)",
    "SELECT 1 AS a WINDOW w AS (ORDER BY pg_sleep(1))", "SELECT 1 FROM ONLY pg_class",
    # names PostgreSQL reads and a parser may not see
    'SELECT U&"pg\\005fsleep"(100)', 'SELECT u&"\\0070g_sleep"(100)', "SELECT U&\"pgz005fsleep\" UESCAPE 'z' (100)",
    'SELECT * FROM U&"pg\\005froles"', "SELECT U&'\\0027 || pg_sleep(100)::text || U&'\\0027'",
    # ends of texts and comments that a parser may put elsewhere
    "SELECT 'a\\' || pg_sleep(100)::text || 'b\\'", "SELECT E'\\'' || pg_sleep(100)::text", "SELECT 1 -- x\r, pg_sleep(100)",
    "SELECT 1 /* /* */ */ , pg_sleep(100)", "SELECT $a$x$a$ || pg_sleep(1)::text", "SELECT 'a' 'b' || pg_sleep(1)::text",
    'SELECT "a\\" || pg_sleep(1)::text || "b\\"', "SELECT '{# ' || pg_sleep(100)::text || ' #}'",
    # what tells of the server or changes the session
    "SELECT set_config('statement_timeout', '0', true), count(*) FROM peptides", "SELECT setseed(1)", "SELECT system_user",
    "SELECT getpgusername()", "SELECT current_setting('data_directory')", "SELECT pg_backend_pid()", "SELECT currval('x')",
    "SELECT pg_current_xact_id()", "SELECT has_table_privilege('devkit.secret', 'select')", "SELECT pg_try_advisory_lock(1)",
    "SELECT CAST('pg_class' AS regclass)", "SELECT to_regclass('pg_class')", "SELECT pg_export_snapshot()",
    "SELECT pg_stat_file('/etc/passwd')", "SELECT lo_get(1)", "SELECT dblink_connect('host=127.0.0.1')",
    "SELECT pg_logical_emit_message(true, 'a', 'b')", "COPY (SELECT 1) TO STDOUT", "CHECKPOINT", "RESET ALL", "SAVEPOINT x",
    "MERGE INTO peptides p USING samples s ON true WHEN MATCHED THEN DELETE", "REASSIGN OWNED BY a TO b",
]  # fmt: skip

# What the database refuses by itself, without the parser: run as the restricted role.
FOR_THE_ROLE = [
    sql for sql in ATTACKS
    if not sql.startswith(("SHOW", "SELECT 1; SELECT 2", "SELECT current_", "SELECT version", "SELECT inet", "ROLLBACK"))
    and "pg_class" not in sql.lower() and "pg_proc" not in sql and "information_schema" not in sql
    and "pg_roles" not in sql and "pg_settings" not in sql and sql not in {"BEGIN", "SELECT devkit_door.scope()"}
]  # fmt: skip


@pytest.fixture(scope="module")
def hurried_devkit(folder: Path) -> Iterator[DevkitProcess]:
    """A devkit that gives queries little time. No other test's queries may depend on how busy the machine is."""
    with DevkitProcess(folder / "hurried", catalogs="on", sql_timeout="2") as devkit:
        yield devkit


def _post(devkit: DevkitProcess, sql: str, **fields: Any) -> requests.Response:
    return devkit.request("POST", QUERY, json={"sql": sql, **fields})


def _fingerprint(independent: Ask) -> list[tuple[Any, ...]]:
    return independent(
        "SELECT (SELECT md5(string_agg(p::text, '|' ORDER BY peptide_id)) FROM vocabulary.peptides p),"
        " (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_largeobject_metadata),"
        " (SELECT string_agg(r::text, '|') FROM pg_roles r)"
    )


def test_attacks_are_refused_nothing_changes_and_the_door_stays_open(
    catalog_devkit: DevkitProcess, independent: Ask
) -> None:
    before = _fingerprint(independent)
    for sql in ATTACKS:
        answer = _post(catalog_devkit, sql)
        assert answer.status_code in {400, 403}, (sql, answer.text)
        assert answer.json()["error"]["code"] in {"SQL_REFUSED", "SQL_INVALID"}, sql
        assert "root:" not in answer.text
    assert _fingerprint(independent) == before
    assert _post(catalog_devkit, "SELECT count(*) AS n FROM peptides").json()["data"] == [{"n": 59}]


@pytest.mark.parametrize("sql", FOR_THE_ROLE)
def test_the_cursor_and_the_privileges_hold_without_the_parser(
    catalog_devkit: DevkitProcess, target: Target, sql: str
) -> None:
    connection = psycopg2.connect(**target.reader())
    try:
        with connection.cursor() as cursor, pytest.raises(psycopg2.Error):
            cursor.execute("BEGIN READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 1000")
            cursor.execute("SELECT devkit_door.open_query(%s)", [sql])
            cursor.execute("SELECT devkit_door.drain(10, 10000)")
    finally:
        connection.close()


def test_scope_cannot_be_forged(catalog_devkit: DevkitProcess, target: Target) -> None:
    connection = psycopg2.connect(**target.reader())
    try:
        with connection.cursor() as cursor:
            for forged in ("{1}", "{1}|", "{1}|00", "1", "{1,2}|" + "a" * 64):
                cursor.execute("SET devkit.scope = %s", [forged])
                cursor.execute("SELECT count(*) FROM peptides")
                assert cursor.fetchone() == (0,), forged
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("sql", "params", "expected"),
    [
        ("SELECT count(*) AS n FROM peptides WHERE length = %s", [9], "SELECT count(*) FROM vocabulary.peptides WHERE length(sequence) = 9"),
        ("SELECT sequence FROM peptides WHERE sequence = ANY(%s) ORDER BY 1", [["GILGFVFTL", "NLVPMVATV"]], "VALUES ('GILGFVFTL'), ('NLVPMVATV')"),
        ("SELECT sequence FROM peptides WHERE peptide_id = ANY(%s::bigint[])", [[6]], "SELECT sequence FROM vocabulary.peptides WHERE peptide_id = 6"),
        ("SELECT sequence FROM peptides WHERE sequence LIKE %s ORDER BY 1", ["GIL%"], "VALUES ('GILGFVFTL')"),
        ("SELECT length, count(*) FROM peptides GROUP BY length HAVING count(*) > 1 ORDER BY 1", [], "SELECT length(sequence), count(*) FROM vocabulary.peptides GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"),
        ("WITH long AS (SELECT * FROM vocabulary.peptides WHERE length > 11) SELECT count(*) FROM long", [], "SELECT count(*) FROM vocabulary.peptides WHERE length > 11"),
        ("SELECT %s::text AS a, %s::int AS b, %s AS c, %s::text AS d", ["o'r--;", 5, True, None], "VALUES ('o''r--;', 5, true, NULL::text)"),
        ("SELECT s.sample_class, avg(spm.normalized_intensity) AS mean, count(DISTINCT spm.sample_id) AS hits FROM sample_peptide_mappings spm JOIN samples s ON s.sample_id = spm.sample_id JOIN peptides p ON p.peptide_id = spm.peptide_id WHERE p.sequence = ANY(%s) GROUP BY s.sample_class", [["GILGFVFTL"]], "SELECT 'demo', 0.001 + (SELECT normalized_intensity - 0.001 FROM observation.sample_peptide_mappings JOIN vocabulary.peptides USING (peptide_id) WHERE sequence = 'GILGFVFTL'), 1"),
        ("SELECT rank() OVER (ORDER BY mass DESC) AS r, sequence FROM peptides ORDER BY r LIMIT 2", [], "SELECT rank() OVER (ORDER BY mass DESC) AS r, sequence FROM vocabulary.peptides ORDER BY r LIMIT 2"),
        ("SELECT count(*) AS n FROM sample_peptide_binders", [], "SELECT 0"),
    ],
)  # fmt: skip
def test_queries_answer_like_the_database(
    sdk: APIClient, independent: Ask, sql: str, params: list[Any], expected: str
) -> None:
    answer = sdk.data.sql.query(sql, params)
    rows = [tuple(row[column] for column in answer["columns"]) for row in answer["data"]]
    assert rows == [pytest.approx(row) if isinstance(row[-1], float) else row for row in independent(expected)]
    assert answer["count"] == len(rows)


def test_query_df_and_version(sdk: APIClient) -> None:
    frame = sdk.data.sql.query_df("SELECT sequence, mass FROM peptides ORDER BY sequence LIMIT 3", version=DEMO_LABEL)
    assert list(frame.columns) == ["sequence", "mass"]
    assert len(frame) == 3
    assert list(sdk.data.sql.query_df("SELECT sequence FROM peptides WHERE false").columns) == ["sequence"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"sql": "SELECT %s", "params": []}, "SQL_INVALID"),
        ({"sql": "SELECT %s", "params": [1, 2]}, "SQL_INVALID"),
        ({"sql": "SELECT %s", "params": [{"a": 1}]}, "SQL_INVALID"),
        ({"sql": "SELECT %s", "params": [[[1]]]}, "SQL_INVALID"),
        ({"sql": "SELECT %(x)s", "params": [1]}, "SQL_INVALID"),
        ({"sql": ""}, "REQUEST_INVALID"),
        ({"sql": "--"}, "SQL_INVALID"),
        ({"sql": "SELECT 1", "more": 1}, "REQUEST_INVALID"),
        ({"sql": "SELECT '\u0000'"}, "BODY_INVALID"),
        ({"sql": "SELECT 1 AS a, 2 AS a"}, "SQL_INVALID"),
        ({"sql": "SELECT " + "(" * 3000 + "1" + ")" * 3000}, "SQL_INVALID"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_bodies_are_told(catalog_devkit: DevkitProcess, body: dict[str, Any], code: str) -> None:
    answer = catalog_devkit.request("POST", QUERY, json=body)
    assert answer.json()["error"]["code"] == code, answer.text
    assert answer.status_code in {400, 422}


def test_errors_say_where_and_nothing_of_the_inside(catalog_devkit: DevkitProcess) -> None:
    answer = _post(catalog_devkit, "SELECT sequence,\n nope FROM peptides WHERE length = %s", params=[9])
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["details"] == {"sqlstate": "42703", "position": 19, "line": 2}
    assert "nope" in error["message"]
    for word in ("devkit_door", "PL/pgSQL", "Traceback", "psycopg2"):
        assert word not in answer.text


@pytest.mark.parametrize(
    ("sql", "unit"),
    [
        ("SELECT generate_series(1, 20001) AS i", "rows"),
        ("SELECT repeat('x', 2000) AS t FROM generate_series(1, 1000)", "bytes"),
        ("SELECT repeat('x', 50000000) AS t", "bytes"),
    ],
)
def test_too_large_a_result_is_an_error_not_a_shorter_answer(
    catalog_devkit: DevkitProcess, sql: str, unit: str
) -> None:
    answer = _post(catalog_devkit, sql)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "SQL_RESULT_TOO_LARGE"), answer.text
    assert unit in answer.json()["error"]["message"]
    exact = _post(catalog_devkit, "SELECT generate_series(1, 20000) AS i")
    assert exact.json()["count"] == 20000


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b",
        "SELECT count(*) FROM generate_series(1, 1000000000) i WHERE repeat('a', 2000) || i || '!' ~ '^(((a*)*)*)b\\1$'",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    ],
)
def test_endless_queries_are_stopped_and_the_pool_stays_healthy(hurried_devkit: DevkitProcess, sql: str) -> None:
    answer = _post(hurried_devkit, sql)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "SQL_TIMEOUT"), answer.text
    assert _post(hurried_devkit, "SELECT 1 AS one").json()["data"] == [{"one": 1}]
    # The devkit looks after its pool with queries of its own now and then; nothing else may be left of this one.
    with contextmanager(asking)(EmbeddedPostgres(hurried_devkit.state / "postgres").target) as ask:
        until(lambda: not ask(RUNNING))


RUNNING = "SELECT pid FROM pg_stat_activity WHERE usename = 'devkit_sql' AND state <> 'idle'"


def test_a_caller_who_leaves_stops_the_query(working_devkit: DevkitProcess, ask: Ask) -> None:
    """On the devkit that gives queries as long as it does by default: long after this one has to be gone."""
    sql = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b"
    fetching = "SELECT pid FROM pg_stat_activity WHERE usename = 'devkit_sql' AND state = 'active' AND query LIKE %s"
    address, body = urlsplit(working_devkit.endpoint), json.dumps({"sql": sql}).encode()
    head = f"POST {QUERY} HTTP/1.1\r\nHost: devkit\r\nX-API-Key: {TEST_KEY}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=PATIENCE) as caller:
        caller.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        ((pid,),) = until(lambda: ask(fetching, "%devkit_door.drain%"))
    # A query that runs into its time goes back to the pool; one whose caller left loses its session.
    until(lambda: not ask("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))
    assert "SQL_TIMEOUT" not in working_devkit.log_text()
    assert _post(working_devkit, "SELECT 1 AS one").json()["data"] == [{"one": 1}]


def test_many_callers_at_once_are_all_answered(catalog_devkit: DevkitProcess, independent: Ask) -> None:
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.append(_post(catalog_devkit, "SELECT %s::int AS n, pi()", params=[number]).json()["data"][0]["n"])

    threads = [threading.Thread(target=ask, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(20))
    # Sessions that other tests closed are gone a moment later.
    until(lambda: independent("SELECT count(*) FROM pg_stat_activity WHERE usename = 'devkit_sql'")[0][0] <= 5)


def test_the_sdk_says_why(sdk: APIClient) -> None:
    with pytest.raises(DataAccessError, match="only a query"):
        sdk.data.sql.query("DROP TABLE peptides")


@pytest.mark.parametrize("sql", [s for s in ATTACKS if not s.startswith(("PREPARE", "EXECUTE"))] + FOR_THE_PARSER)
def test_the_parser_alone_refuses(sql: str) -> None:
    with pytest.raises(DevkitError) as refused:
        check(sql)
    assert refused.value.code in {"SQL_REFUSED", "SQL_INVALID"}
    assert TEST_KEY not in refused.value.message
