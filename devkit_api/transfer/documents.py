"""Documents of a database in an export: as files, the way the other backend has them, so that either can import them.

Blocking.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg2

from devkit_api.database.target import Target
from devkit_api.state.binding import check_bound
from devkit_api.state.names import COLLECTIONS, place_of
from devkit_api.state.postgres.ownership import ADVICE
from devkit_api.state.postgres.schema import prepare
from devkit_api.state.postgres.session import LOCK
from devkit_api.state.store import StoreLocked
from devkit_api.transfer import TransferRefused

_PAGE = 200


class DocumentRows:
    """The documents in a database that no devkit owns for as long as this is open."""

    def __init__(self, target: Target) -> None:
        """Connect and take the lock. Raises `StoreLocked`, `SettingsError` or `psycopg2.Error`."""
        prepare(target)
        # Two connections: the lock outlasts the transaction that the other one may roll back.
        self._lock = psycopg2.connect(**target.owner())
        self._connection = psycopg2.connect(**target.owner())
        try:
            with self._lock, self._lock.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [*LOCK])
                if not cursor.fetchone()[0]:
                    raise StoreLocked(f"a devkit owns the state in the database {target.name} of {target.host}", ADVICE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the lock, and what was not committed."""
        self._connection.close()
        self._lock.close()

    def commit(self) -> None:
        """Make what was read in durable, and end."""
        self._connection.commit()
        self.close()

    def held(self) -> str | None:
        """A collection with documents, or None."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT collection FROM devkit_state.documents WHERE collection = ANY(%s) LIMIT 1", [list(COLLECTIONS)]
            )
            row = cursor.fetchone()
            return None if row is None else str(row[0])

    def state_id(self) -> str:
        """Which state it is."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT state_id::text FROM devkit_state.owner")
            return str(cursor.fetchone()[0])

    def write_out(self, state: Path, folder: Path) -> None:
        """Every document as a file below `folder`. Raises `SettingsError` when `state` belongs to other documents."""
        check_bound(state, self.state_id())
        with self._connection.cursor(name="devkit_export") as cursor:
            cursor.itersize = _PAGE
            cursor.execute(
                "SELECT collection, key, document::text FROM devkit_state.documents WHERE collection = ANY(%s)"
                " ORDER BY collection, key",
                [list(COLLECTIONS)],
            )
            for collection, key, text in cursor:
                path = folder / place_of(collection, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())

    def read_in(self, folder: Path) -> None:
        """Take the documents below `folder` out of it; they are stored with `commit`. Raises `TransferRefused`."""
        with self._connection.cursor() as cursor:
            # A devkit that had this state until now finds that it has it no more.
            cursor.execute("UPDATE devkit_state.owner SET epoch = epoch + 1, holder = 'an import', taken_at = now()")
            for collection in COLLECTIONS:
                for path in sorted((folder / collection).glob("*/*.json")):
                    _insert(cursor, collection, path)
                shutil.rmtree(folder / collection, ignore_errors=True)


def _insert(cursor: psycopg2.extensions.cursor, collection: str, path: Path) -> None:
    try:
        text = path.read_bytes().decode()
        cursor.execute(
            "INSERT INTO devkit_state.documents (collection, key, document) VALUES (%s, %s, %s)",
            [collection, path.stem, text],
        )
    except (UnicodeDecodeError, ValueError, psycopg2.DataError, psycopg2.IntegrityError):
        raise TransferRefused(f"{collection}/{path.stem[:100]} in the archive is not a document") from None
