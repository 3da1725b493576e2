"""A look at the state in PostgreSQL from beside a devkit. Blocking; takes nothing and changes nothing."""

from __future__ import annotations

import attrs

from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.state.postgres.session import LOCK

_OWNED = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


@attrs.frozen
class Look:
    """What was found: the number of documents, None where there is no state yet; who owns it, or None."""

    documents: int | None
    owner: str | None


def look(target: Target) -> Look:
    """Ask the database. Raises `psycopg2.Error`."""
    with connect(target) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_OWNED, [*LOCK])
        is_owned = cursor.fetchone()[0]
        cursor.execute("SELECT to_regclass('devkit_state.documents') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return Look(None, None)
        cursor.execute("SELECT (SELECT count(*) FROM devkit_state.documents), holder FROM devkit_state.owner")
        documents, holder = cursor.fetchone()
        return Look(documents, holder if is_owned else None)
