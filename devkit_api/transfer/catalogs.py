"""Catalogs as rows: `COPY` out of every table, and back into a schema made by our own migrations.

Rows are data. Nothing of an archive is executed, as a database dump would be. Blocking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import psycopg2
from psycopg2 import sql

from devkit_api.catalogs.writer import settle
from devkit_api.database.failures import first_line
from devkit_api.database.migrate import migrate, shipped
from devkit_api.database.target import Target
from devkit_api.transfer import TransferRefused

PART_BYTES = 4 * 1024 * 1024
# Of a database of one's own, others may use the rest.
_SCHEMAS = sorted({name for made in shipped() for name in re.findall(r"(?m)^CREATE SCHEMA (\w+);", made.text)})
_OURS = f"n.nspname IN ({', '.join(repr(name) for name in _SCHEMAS)})"
# What the restricted role's scope is signed with: each database has its own.
_NO_SECRET = "(n.nspname, c.relname) <> ('devkit', 'secret')"  # noqa: S105  a table's name
_TABLES = (
    "SELECT n.nspname, c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n"  # noqa: S608  no input
    f" ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND {_OURS} AND {_NO_SECRET} ORDER BY 1, 2"
)
_NEEDS = (
    "SELECT n.nspname || '.' || c.relname, rn.nspname || '.' || rc.relname FROM pg_constraint k"  # noqa: S608  no input
    " JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_class rc ON rc.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = rc.relnamespace"
    f" WHERE k.contype = 'f' AND {_OURS}"
)
_GO_ON = "SELECT setval(pg_get_serial_sequence(%s, %s), GREATEST(1, max({0})), max({0}) IS NOT NULL) FROM {1}"
_COLUMNS = (
    "SELECT column_name, is_identity = 'YES' FROM information_schema.columns"
    " WHERE table_schema = %s AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position"
)


@attrs.frozen
class Table:
    """A table of the catalogs, with about how many bytes it takes."""

    schema: str
    name: str
    about_bytes: int

    @property
    def full_name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.name}"


def is_used(connection: Any) -> str | None:
    """What makes a database more than an empty one, or None."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('devkit.catalogs') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return None
        for table in _tables(cursor):
            cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(_identifier(table)))
            if cursor.fetchone()[0]:
                return table.full_name
    return None


class CatalogReader:
    """Every table as it is at one moment."""

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()
        self._cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    @property
    def is_there(self) -> bool:
        """Whether a devkit ever used this database."""
        self._cursor.execute("SELECT to_regclass('public.devkit_migrations') IS NOT NULL")
        return bool(self._cursor.fetchone()[0])

    def migrations(self) -> list[dict[str, Any]]:
        """What made the schema: number and digest of each migration."""
        self._cursor.execute("SELECT number, sha256 FROM public.devkit_migrations ORDER BY number")
        return [{"number": number, "sha256": digest} for number, digest in self._cursor.fetchall()]

    def tables(self) -> list[Table]:
        """Every table, those that others refer to first."""
        return _tables(self._cursor)

    def columns(self, table: Table) -> list[str]:
        """The columns whose values are not computed."""
        return [name for name, _ in _columns(self._cursor, table)]

    def copy(self, table: Table, write: Callable[[bytes], None]) -> None:
        """Its rows in parts of a few MiB."""
        parts = _Parts(write)
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(_list(self.columns(table)), _identifier(table))
        self._cursor.copy_expert(query, parts)
        parts.flush()


class CatalogWriter:
    """Fills an empty database. All in one transaction, which `finish` ends."""

    def __init__(self, target: Target, connection: Any, header: dict[str, Any]) -> None:
        migrate(target, _same_migrations(header["migrations"]))
        self._connection = connection
        self._cursor = connection.cursor()
        self._columns: dict[str, list[str]] = header["columns"]
        self._known = {table.full_name: table for table in _tables(self._cursor)}
        if self._known:
            every = sql.SQL(", ").join(_identifier(table) for table in self._known.values())
            self._cursor.execute(sql.SQL("TRUNCATE {}").format(every))  # what migrations put there is in the archive
        self._triggers("DISABLE")  # they guard complete versions against what comes later

    def copy(self, full_name: str, chunks: Iterator[bytes]) -> None:
        """Rows of one table. Raises `TransferRefused` for rows the schema does not take."""
        table = self._known.get(full_name)
        wanted = [name for name, _ in _columns(self._cursor, table)] if table else []
        if table is None or self._columns.get(full_name) != wanted:
            raise TransferRefused(f"the archive holds rows of {full_name!r} that this devkit has no place for")
        query = sql.SQL("COPY {} ({}) FROM STDIN").format(_identifier(table), _list(wanted))
        try:
            self._cursor.copy_expert(query, _Source(chunks))
        except psycopg2.Error as exc:
            raise TransferRefused(f"the rows of {full_name} are not taken: {first_line(exc)}") from None

    def _triggers(self, verb: str) -> None:
        for table in self._known.values():
            self._cursor.execute(sql.SQL("ALTER TABLE {} {} TRIGGER USER").format(_identifier(table), sql.SQL(verb)))

    def finish(self) -> None:
        """Let ids go on after the highest, and commit."""
        self._triggers("ENABLE")
        for table in self._known.values():
            for column in (name for name, is_identity in _columns(self._cursor, table) if is_identity):
                query = sql.SQL(_GO_ON).format(sql.Identifier(column), _identifier(table))
                self._cursor.execute(query, [table.full_name, column])
        self._connection.commit()
        settle(self._connection)


class _Parts:
    """What `COPY` writes to: collects, and hands on in parts that end anywhere."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= PART_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self._write(bytes(self._buffer))
            self._buffer.clear()


class _Source:
    """What `COPY` reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _tables(cursor: Any) -> list[Table]:
    cursor.execute(_TABLES)
    left = {table.full_name: table for table in (Table(*row) for row in cursor.fetchall())}
    cursor.execute(_NEEDS)
    needs: list[tuple[str, str]] = [(one, other) for one, other in cursor.fetchall() if one != other]
    ordered = []
    while left:
        free = [name for name in left if not any(one == name and other in left for one, other in needs)]
        # A circle of references would have to be broken by hand; no schema of ours has one.
        ordered += [left.pop(name) for name in (free or sorted(left))]
    return ordered


def _columns(cursor: Any, table: Table) -> list[tuple[str, bool]]:
    cursor.execute(_COLUMNS, [table.schema, table.name])
    return [(name, is_identity) for name, is_identity in cursor.fetchall()]


def _same_migrations(recorded: list[dict[str, Any]]) -> list[Any]:
    """Our migrations up to where the archive's database was. Raises `TransferRefused`."""
    known = {migration.number: migration for migration in shipped()}
    for made in recorded:
        if made["number"] not in known or known[made["number"]].sha256 != made["sha256"]:
            raise TransferRefused("its catalogs were made by another devkit; import it with that one, or a newer one")
    return [known[made["number"]] for made in recorded]


def _identifier(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _list(columns: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
