"""Running the typed reads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from devkit_api.catalogs.entities import Entity, count_statement, page_statement
from devkit_api.catalogs.filters import Condition, Query, read_query
from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.service import CatalogService
from devkit_api.database.pool import Pool, execute, fetch

Record = dict[str, Any]


def parse(entity: Entity, raw: Mapping[str, Any]) -> Query:
    """Check the parameters of a typed read."""
    return read_query(raw, entity.filters, entity.sorts)


async def read(service: CatalogService, entity: Entity, query: Query, scope: Scope) -> Record:
    """One page: the entity's own key, `total` when it was asked for, and the window."""
    pool = service.database.owner
    rows = _page(pool, page_statement(entity, query, scope.segments))
    answer: Record = {"limit": query.limit, "offset": query.offset, "version": scope.version.version_id}
    if query.count:
        found, total = await asyncio.gather(rows, records(pool, count_statement(entity, query, scope.segments)))
        return {entity.name: found, "total": total[0]["count"], **answer}
    return {entity.name: await rows, **answer}


async def _page(pool: Pool, statement: Condition) -> orjson.Fragment:
    """The rows as JSON by PostgreSQL itself: making hundreds of objects here only to write them out takes longer."""
    text = f"SELECT coalesce(json_agg(page), '[]')::text FROM ({statement.text}) page"  # noqa: S608  ours
    found = await fetch(pool, text, statement.values)
    return orjson.Fragment(found[0][0])


async def records(pool: Pool, statement: Condition) -> list[Record]:
    """Rows as objects with the names of their columns."""

    async def work(cursor: Any) -> list[Record]:
        await execute(cursor, statement.text, statement.values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    return await pool.run_reading(work)
