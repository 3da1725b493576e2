"""A PostgreSQL that is not the devkit's own: over TCP on loopback, with passwords."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from devkit_api.database.embedded import EmbeddedPostgres
from tests.support.waiting import free_port

PASSWORD = "a-password-of-the-tests-1"  # pragma: allowlist secret


@contextmanager
def external_postgres(home: Path) -> Iterator[tuple[EmbeddedPostgres, int]]:
    """The server and its port. `home` must not be pytest's own: for root the server is another user."""
    server = EmbeddedPostgres(home)
    asyncio.run(server.start())
    asyncio.run(server.stop())
    port = free_port()
    hba = "host all all 127.0.0.1/32 scram-sha-256\n"
    (home / "data" / "pg_hba.conf").write_text("local all all peer map=devkit\n" + hba)
    asyncio.run(server.start(on_loopback(port)))
    try:
        yield server, port
    finally:
        asyncio.run(server.stop())


def on_loopback(port: int) -> dict[str, str]:
    """Changes to the server's settings. Its data need not outlive this machine: without `fsync` it stops at once."""
    return {"listen_addresses": "127.0.0.1", "port": str(port), "fsync": "off"}


def new_database(server: EmbeddedPostgres, port: int) -> dict[str, str]:
    """Settings (without their prefix) of a new database whose owner is no superuser."""
    name = f"external_{uuid.uuid4().hex[:8]}"
    connection = psycopg2.connect(**{**server.target.owner(), "port": port})
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'external_owner')")
        if not cursor.fetchone()[0]:
            cursor.execute("CREATE ROLE external_owner LOGIN CREATEROLE PASSWORD %s", [PASSWORD])
        cursor.execute(f"CREATE DATABASE {name} OWNER external_owner")
    connection.close()
    return {
        "db_host": "127.0.0.1", "db_port": str(port), "db_name": name, "db_user": "external_owner",
        "db_password": PASSWORD,
    }  # fmt: skip
