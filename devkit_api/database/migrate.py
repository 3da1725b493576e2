"""Migrations: numbered SQL files, forward only, each in one transaction and recorded in it.

An advisory lock lets one starter migrate while another waits. A recorded file that has changed since, or that this
devkit does not know, stops the start: going on could damage data.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import attrs
import psycopg2
from psycopg2 import sql

from devkit_api.database.target import SQL_ROLE, Target
from devkit_api.settings import Problem, SettingsError

log = logging.getLogger(__name__)

_LOCK = 4_100_620  # any number, the same in every devkit
_TABLE = """
CREATE TABLE IF NOT EXISTS {} (
    number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""


@attrs.frozen
class History:
    """A series of migrations: the package with its files, and the table that records them."""

    package: str
    schema: str
    table: str

    @property
    def recorded_in(self) -> sql.Identifier:
        """The table, quoted."""
        return sql.Identifier(self.schema, self.table)


CATALOGS = History("devkit_api.database", "public", "devkit_migrations")


@attrs.frozen
class Migration:
    """One file: `0001_name.sql`."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What is recorded, so that a changed file is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def shipped(history: History = CATALOGS) -> list[Migration]:
    """The files of this devkit, in order."""
    folder = files(history.package).joinpath("migrations")
    found = sorted((f.name, f.read_text(encoding="utf-8")) for f in folder.iterdir() if f.name.endswith(".sql"))
    return [Migration(int(name[:4]), name, text) for name, text in found]


@contextmanager
def connect(target: Target) -> Iterator[Any]:
    """A blocking connection of the owner, for work outside the event loop; each `with connection` is a transaction."""
    connection = psycopg2.connect(**target.owner())
    try:
        yield connection
    finally:
        connection.close()


def migrate(target: Target, migrations: list[Migration] | None = None, history: History = CATALOGS) -> int:
    """Apply what is missing; how many that were. Blocking. Raises `SettingsError` when the history does not fit."""
    wanted = shipped(history) if migrations is None else migrations
    with connect(target) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.commit()
        try:
            applied = _apply_missing(connection, cursor, wanted, history)
            if history is CATALOGS and target.reader_password is not None:
                role = sql.Identifier(SQL_ROLE)
                cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD %s").format(role), [target.reader_password])
                connection.commit()
            return applied
        finally:
            connection.rollback()
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
            connection.commit()


def _apply_missing(connection: Any, cursor: Any, wanted: list[Migration], history: History) -> int:
    if history.schema != "public":
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(history.schema)))
    cursor.execute(sql.SQL(_TABLE).format(history.recorded_in))
    cursor.execute(sql.SQL("SELECT number, sha256 FROM {}").format(history.recorded_in))
    recorded: dict[int, str] = dict(cursor.fetchall())
    connection.commit()
    _check_history(recorded, wanted)
    missing = [migration for migration in wanted if migration.number not in recorded]
    insert = sql.SQL("INSERT INTO {} (number, name, sha256) VALUES (%s, %s, %s)").format(history.recorded_in)
    for migration in missing:
        cursor.execute(migration.text)
        cursor.execute(insert, [migration.number, migration.name, migration.sha256])
        connection.commit()
        log.info("database migrated", extra={"migration": migration.name})
    return len(missing)


def _check_history(recorded: Mapping[int, str], wanted: list[Migration]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, digest in recorded.items():
        if number not in known:
            raise _history_problem(f"it was migrated by a newer devkit (migration {number})", "install that devkit")
        if known[number].sha256 != digest:
            reason = f"migration {known[number].name} is not the one it was migrated with"
            raise _history_problem(reason, "install the devkit that made it, or start with an empty database")


def _history_problem(reason: str, fix: str) -> SettingsError:
    return SettingsError([Problem("database", reason, fix)])
