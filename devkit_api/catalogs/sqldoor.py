"""Users' SQL (wire-contract F.5): one query, as the restricted role, at one version, within limits.

The order: the statement is bound to its parameters by psycopg2, checked (`sqlcheck`), and handed to the database as a
text from which `devkit_door.open_query` opens a cursor. PostgreSQL so refuses several statements and writes by itself;
`devkit_door.drain` measures each row before it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
import psycopg2
from marshmallow import fields, validate

from devkit_api import jsonio
from devkit_api.catalogs.models import Scope
from devkit_api.database.pool import Pool, StatementCancelled, execute
from devkit_api.errors import SqlInvalid, SqlRefused, SqlResultTooLarge, SqlTimeout
from devkit_api.schemas import StrictSchema

T = TypeVar("T")
MAX_SQL = 1_000_000
_TOO_MANY_ROWS = "DK001"
_TOO_MANY_BYTES = "DK002"
# Classes of SQLSTATE whose message speaks of the statement and its data alone.
_TELLABLE = ("21", "22", "42", "0A", "24", "2F", "34", "54")
# Lost connections, shutdowns, broken disks, bugs: not the statement's doing.
_OURS = ("08", "57", "58", "F0", "XX")
_PRIVILEGE = ("42501", "25006")
_SCALARS = (str, int, float, bool, type(None))


@attrs.frozen
class SqlLimits:
    """What one query may take."""

    seconds: float
    rows: int
    max_bytes: int


# What is made of an open cursor `devkit_query` with these columns.
Answer = Callable[[Any, list[str], SqlLimits], Awaitable[T]]


class SqlQuerySchema(StrictSchema):
    """Body of `POST {data}/query`."""

    sql = fields.String(required=True, validate=validate.Length(1, MAX_SQL), metadata={"expected": "one SELECT"})
    params = fields.List(fields.Raw(allow_none=True), load_default=list, validate=validate.Length(max=10_000))
    version = fields.String(validate=validate.Length(1, 100))


async def run_query(pool: Pool, scope: Scope, limits: SqlLimits, sql: str, params: Sequence[Any]) -> bytes:
    """The answer as JSON `{"columns", "data", "count"}`. Rows are JSON as PostgreSQL writes it, never parsed here."""
    return await _through(pool, scope, limits, (sql, params), _answer_rows)


async def describe(pool: Pool, scope: Scope, limits: SqlLimits, sql: str, params: Sequence[Any]) -> list[str]:
    """The names of a query's columns; PostgreSQL checks and plans it, and no row is read."""
    return await _through(pool, scope, limits, (sql, params), _only_columns)


async def _through(
    pool: Pool, scope: Scope, limits: SqlLimits, query: tuple[str, Sequence[Any]], answer: Answer[T]
) -> T:
    async def work(cursor: Any) -> T:
        statement = bind(cursor, *query)
        # Parsing a long statement takes its time: not on the event loop.
        await asyncio.to_thread(_check, statement)
        try:
            return await _read_only(cursor, scope, limits, statement, answer)
        except psycopg2.Error as exc:
            raise _explain(exc, limits) from None

    try:
        return await pool.run(work)
    except StatementCancelled:
        raise SqlTimeout(seconds=limits.seconds) from None


def _check(statement: str) -> None:
    from devkit_api.catalogs.sqlcheck import check  # the parser is loaded by the first query, not by every start

    check(statement)


def bind(cursor: Any, sql: str, params: Sequence[Any]) -> str:
    """The statement with its parameters written in by psycopg2, lists as arrays. Without parameters `%` is itself."""
    for number, value in enumerate(params, start=1):
        _check_parameter(number, value)
    if not params:
        return sql
    try:
        bound: bytes = cursor.raw.mogrify(sql, list(params))
    except (IndexError, TypeError, ValueError, psycopg2.Error):
        raise SqlInvalid(
            reason=f"its placeholders do not fit {len(params)} parameter(s); write %% for a percent"
        ) from None
    return bound.decode()


async def _read_only(cursor: Any, scope: Scope, limits: SqlLimits, statement: str, answer: Answer[T]) -> T:
    await execute(cursor, "BEGIN READ ONLY")
    try:
        await execute(cursor, "SET LOCAL statement_timeout = %s", [int(limits.seconds * 1000)])
        await execute(cursor, "SET LOCAL devkit.scope = %s", [scope.version.signed_scope])
        await execute(cursor, "SELECT devkit_door.open_query(%s)", [statement])
        await execute(cursor, "FETCH 0 FROM devkit_query")
        columns = [column[0] for column in cursor.description or ()]
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise SqlInvalid(reason=f"two columns are named {twice[:60]!r}; give one another name with AS")
        return await answer(cursor, columns, limits)
    finally:
        await _end(cursor)


async def _only_columns(_cursor: Any, columns: list[str], _limits: SqlLimits) -> list[str]:
    return columns


async def _answer_rows(cursor: Any, columns: list[str], limits: SqlLimits) -> bytes:
    await execute(cursor, "SELECT devkit_door.drain(%s, %s)", [limits.rows, limits.max_bytes])
    return _answer(columns, [row[0] for row in await cursor.fetchall()])


async def _end(cursor: Any) -> None:
    """Nothing was written; a connection that is gone needs no end."""
    if not cursor.connection.closed and not cursor.closed:
        await execute(cursor, "ROLLBACK")


def _answer(columns: list[str], rows: list[str]) -> bytes:
    head = b'{"columns":' + jsonio.dumps(columns) + b',"count":' + str(len(rows)).encode() + b',"data":['
    return head + ",".join(rows).encode() + b"]}"


def _check_parameter(number: int, value: Any) -> None:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, _SCALARS) for item in items):
        raise SqlInvalid(reason=f"parameter {number} is neither a text, number, boolean or null, nor a list of them")


def _explain(exc: psycopg2.Error, limits: SqlLimits) -> Exception:
    code = exc.pgcode or ""
    if code == _TOO_MANY_ROWS:
        return SqlResultTooLarge(limit=limits.rows, unit="rows")
    if code == _TOO_MANY_BYTES:
        return SqlResultTooLarge(limit=limits.max_bytes, unit="bytes")
    if code in _PRIVILEGE:
        return SqlRefused(reason="it reaches for what queries may not read or change")
    if code.startswith(_TELLABLE):
        return SqlInvalid(reason=_message(exc), details=_place(exc))
    if code.startswith("53"):
        return SqlInvalid(reason="it needs more memory or disk than queries get")
    if code and not code.startswith(_OURS):
        return SqlInvalid(reason="PostgreSQL refuses it", details={"sqlstate": code})
    unexpected: Exception = exc
    return unexpected


def _message(exc: psycopg2.Error) -> str:
    """What PostgreSQL says first; detail, context and hint may hold more than the statement."""
    return str(exc.diag.message_primary or "PostgreSQL refuses it")[:300]


def _place(exc: psycopg2.Error) -> dict[str, Any]:
    """Where in the statement, with its parameters written in: character and line, from 1."""
    at = exc.diag.internal_position or exc.diag.statement_position
    text = exc.diag.internal_query or ""
    found: dict[str, Any] = {"sqlstate": exc.pgcode}
    if at is None:
        return found
    position = int(at)
    return {**found, "position": position, "line": text[: position - 1].count("\n") + 1}
