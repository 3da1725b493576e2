"""Which catalogs and versions there are, and what a request's address means."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from devkit_api.catalogs.models import Catalog, Scope, Version
from devkit_api.database.pool import Pool, fetch
from devkit_api.database.pools import Database
from devkit_api.errors import CatalogNotFound, CatalogsOff, VersionNotFound

# Another process (`catalog generate`) may add a version: the directory is at most this old.
_FRESH_SECONDS = 1.0
_CATALOGS = """
SELECT catalog_id::text, provider_key, catalog_key, label, description, domain, schema_name, source_tables,
       ingestion_tables, is_demo
  FROM devkit.catalogs WHERE active ORDER BY created_at, catalog_id"""
_VERSIONS = """
SELECT catalog_id::text, version_id::text, version_label, segments, row_counts, to_json(ready_at)#>>'{}',
       devkit.sign_scope(segments::text)
  FROM devkit.catalog_versions WHERE status = 'ready' ORDER BY ready_at DESC, segment DESC"""


class CatalogService:
    """The directory of catalogs. Without a database every call raises `CatalogsOff`."""

    def __init__(self, database: Database | None) -> None:
        self._database = database
        self._known: dict[tuple[str, str], Catalog] = {}
        self._read_at = float("-inf")
        self._changes = 0
        self._reading = asyncio.Lock()

    @property
    def database(self) -> Database:
        """The pools."""
        if self._database is None:
            raise CatalogsOff
        return self._database

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by name, for metrics; none without a database."""
        return {"owner": self._database.owner, "reader": self._database.reader} if self._database else {}

    async def views(self) -> list[dict[str, Any]]:
        """Records of `GET /v1/data-catalogs`."""
        return [catalog.view() for catalog in (await self._directory()).values()]

    async def by_id(self, catalog_id: str) -> Catalog:
        """The catalog with this id. Raises `CatalogNotFound`."""
        found = next((c for c in (await self._directory()).values() if c.catalog_id == catalog_id), None)
        if found is None:
            raise CatalogNotFound(catalog=catalog_id[:50])
        return found

    async def resolve(self, provider: str, key: str, version: str | None = None) -> Scope:
        """The catalog at a version: its id or label, or the current one. Unknown fails, it never falls back."""
        catalog = (await self._directory()).get((provider, key))
        if catalog is None:
            raise CatalogNotFound(catalog=f"{provider}/{key}"[:150])
        found = catalog.version(version)
        if found is None:
            raise VersionNotFound(catalog=catalog.name, version=(version or "current")[:100])
        return Scope(catalog, found)

    def forget(self) -> None:
        """The directory has changed: read it again."""
        self._changes += 1
        self._read_at = float("-inf")

    async def _directory(self) -> dict[tuple[str, str], Catalog]:
        if monotonic() - self._read_at >= _FRESH_SECONDS:
            async with self._reading:
                if monotonic() - self._read_at >= _FRESH_SECONDS:
                    began, changes = monotonic(), self._changes
                    self._known = await self._read()
                    if changes == self._changes:  # else it may have been read before the change
                        self._read_at = began
        return self._known

    async def _read(self) -> dict[tuple[str, str], Catalog]:
        pool = self.database.owner
        catalogs, versions = await fetch(pool, _CATALOGS), await fetch(pool, _VERSIONS)
        of_catalog: dict[str, list[Version]] = {}
        for catalog_id, *fields in versions:
            of_catalog.setdefault(catalog_id, []).append(Version(*fields))
        made = [Catalog(tuple(of_catalog.get(row[0], ())), *row) for row in catalogs]
        return {(catalog.provider, catalog.key): catalog for catalog in made}
