"""Removing catalogs for good: those that were deleted, or all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg2
from psycopg2 import sql
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from devkit_api.catalogs.seed import DEMO, seed
from devkit_api.catalogs.writer import TABLES, VERSIONED
from devkit_api.database.migrate import connect
from devkit_api.database.pool import fetch
from devkit_api.database.pools import Database
from devkit_api.database.target import Target


async def purge_inactive(database: Database, catalog_id: str) -> None:
    """Remove this catalog if it was deleted."""
    known = await fetch(
        database.owner, "SELECT 1 FROM devkit.catalogs WHERE catalog_id = %s AND NOT active", [catalog_id]
    )
    if known:
        await _again()(asyncio.to_thread, _remove, database.target, catalog_id)


async def reset_catalogs(database: Database) -> None:
    """Only the demo catalog, fresh: other catalogs, uploads, ingestions and data views are gone."""
    await _again()(asyncio.to_thread, _start_over, database.target)


def _again() -> AsyncRetrying:
    """Who removes and who imports may wait for each other: PostgreSQL then ends one of the two, with nothing done."""
    return AsyncRetrying(
        retry=retry_if_exception_type(psycopg2.errors.DeadlockDetected),
        wait=wait_random_exponential(0.05, max=1),
        stop=stop_after_attempt(10),
        reraise=True,
    )


def _start_over(target: Target) -> None:
    with connect(target) as connection, connection, connection.cursor() as cursor:
        # Waits for writers, and keeps new ones out: no import may add to what is being emptied.
        cursor.execute("LOCK TABLE devkit.catalogs, devkit.catalog_versions IN ACCESS EXCLUSIVE MODE")
        cursor.execute("SELECT count(*) FROM devkit.catalog_versions")
        untouched = cursor.fetchone()[0] == 1 and _only_demo(cursor)
        cursor.execute("TRUNCATE devkit.data_views, devkit.catalog_uploads, devkit.ingestions CASCADE")
        if untouched:
            return
        names = [sql.Identifier(tier, table) for table, tier in TABLES.items()]
        names += [sql.Identifier("devkit", "catalog_versions"), sql.Identifier("devkit", "catalogs")]
        cursor.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(names)))
    seed(target)


def _only_demo(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FILTER (WHERE catalog_id <> %s) FROM devkit.catalogs", [str(DEMO.catalog_id)])
    return bool(cursor.fetchone()[0] == 0)


def _remove(target: Target, catalog_id: str) -> None:
    with connect(target) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(array_agg(segment), '{}') FROM devkit.catalog_versions WHERE catalog_id = %s", [catalog_id]
        )
        segments = cursor.fetchone()[0]
        # Each table by its segments; row by row through the foreign keys would take much longer.
        cursor.execute(
            "SELECT set_config('session_replication_role', 'replica', true)"
            " WHERE current_setting('is_superuser') = 'on'"
        )
        for table in reversed(VERSIONED):
            name = sql.Identifier(TABLES[table], table)
            cursor.execute(sql.SQL("DELETE FROM {} WHERE segment = ANY(%s)").format(name), [segments])
        cursor.execute(
            "SELECT set_config('session_replication_role', 'origin', true) WHERE current_setting('is_superuser') = 'on'"
        )
        cursor.execute("DELETE FROM devkit.ingestions WHERE catalog_id = %s", [catalog_id])
        cursor.execute("DELETE FROM devkit.catalogs WHERE catalog_id = %s AND NOT active", [catalog_id])
