"""What an error of the database means, and what it says."""

from __future__ import annotations

import psycopg2

# Of the connection's own trouble, which may pass: deadlocks, locks, a standby that is becoming the primary, no room.
PASSING = ("40", "55P03", "25006", "53300")


def connection_lost(exc: psycopg2.Error) -> bool:
    """Whether the connection failed, not the statement: SQLSTATE class 08, an administrator's shutdown, or no code at
    all because the socket closed.

    psycopg2 says the last with any of three types; what is wrong with a statement has a type of its own.
    """
    if exc.pgcode:
        return bool(exc.pgcode.startswith(("08", "57P")))
    return isinstance(exc, psycopg2.OperationalError | psycopg2.InterfaceError) or type(exc) is psycopg2.DatabaseError


def first_line(exc: Exception) -> str:
    """What the server said, in one line."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
