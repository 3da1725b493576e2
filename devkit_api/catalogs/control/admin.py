"""Catalogs and their versions, for administrators."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from devkit_api.catalogs.filters import refuse
from devkit_api.catalogs.ids import catalog_id
from devkit_api.catalogs.models import DEMO_ID, readable_tables, writable_tables
from devkit_api.catalogs.purge import purge_inactive
from devkit_api.catalogs.service import CatalogService
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import CatalogExists, CatalogNotFound, CatalogReadOnly, VersionNotFound

Document = dict[str, Any]

_COLUMNS = (
    "catalog_id::text, provider_key, catalog_key, label, description, domain, schema_name, source_tables,"
    " ingestion_tables, is_demo, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}'"
)
_VERSION = """
SELECT version_id::text, v.catalog_id::text, version_label, mode, parent_id::text, row_counts,
       to_json(v.created_at)#>>'{}', to_json(ready_at)#>>'{}'
  FROM devkit.catalog_versions v JOIN devkit.catalogs c USING (catalog_id) WHERE v.status = 'ready' AND c.active"""


class CatalogAdmin:
    """Create, read, change and delete catalogs. What is deleted is hidden; its keys can be used again."""

    def __init__(self, catalogs: CatalogService) -> None:
        self._catalogs = catalogs

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def create(self, body: Document) -> Document:
        """A new, empty catalog. One deleted under the same keys goes for good. Raises `CatalogExists`."""
        provider, key = body["providerKey"], body["catalogKey"]
        made = str(catalog_id(provider, key))
        if made == DEMO_ID:
            raise CatalogExists(catalog=f"{provider}/{key}")
        await purge_inactive(self._catalogs.database, made)
        rows = await write(
            self._pool,
            "INSERT INTO devkit.catalogs (catalog_id, provider_key, catalog_key, label, description, domain,"  # noqa: S608
            " schema_name, source_tables, ingestion_tables) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
            f" ON CONFLICT DO NOTHING RETURNING {_COLUMNS}",
            [
                made, provider, key, body["label"], body["description"] or "", body["domain"], body["schemaName"],
                list(dict.fromkeys(body["sourceTables"])), body["ingestionTables"],
            ],
        )  # fmt: skip
        if not rows:
            raise CatalogExists(catalog=f"{provider}/{key}")
        self._catalogs.forget()
        return {**_view(rows[0]), "currentVersion": None}

    async def get(self, identity: str) -> Document:
        """One catalog. Raises `CatalogNotFound`."""
        rows = await fetch(
            self._pool,
            f"SELECT {_COLUMNS} FROM devkit.catalogs WHERE catalog_id = %s AND active",  # noqa: S608
            [uuid(identity)],
        )
        if not rows:
            raise CatalogNotFound(catalog=identity[:50])
        versions = await self.versions(identity)
        return {**_view(rows[0]), "currentVersion": versions[0] if versions else None}

    async def update(self, identity: str, body: Document) -> Document:
        """Change label or description."""
        await self._changeable(identity)
        description = body.get("description", False)
        await write(
            self._pool,
            "UPDATE devkit.catalogs SET label = coalesce(%s, label), updated_at = now(),"
            " description = CASE WHEN %s THEN %s ELSE description END WHERE catalog_id = %s AND active RETURNING 1",
            [body.get("label"), description is not False, description or "", uuid(identity)],
        )
        self._catalogs.forget()
        return await self.get(identity)

    async def delete(self, identity: str) -> Document:
        """Hide a catalog. Its versions stay on disk until its keys are used again, or the devkit is reset."""
        await self._changeable(identity)
        await write(
            self._pool,
            "UPDATE devkit.catalogs SET active = false, updated_at = now() WHERE catalog_id = %s AND active"
            " RETURNING 1",
            [uuid(identity)],
        )
        self._catalogs.forget()
        return {"id": uuid(identity), "status": "deleted", "active": False}

    async def versions(self, identity: str) -> list[Document]:
        """Ready versions, newest first."""
        statement = _VERSION + " AND v.catalog_id = %s ORDER BY ready_at DESC, segment DESC"
        return [_version_view(row) for row in await fetch(self._pool, statement, [uuid(identity)])]

    async def version(self, version_id: str) -> Document:
        """One ready version. Raises `VersionNotFound`."""
        rows = await fetch(self._pool, _VERSION + " AND version_id = %s", [uuid(version_id)])
        if not rows:
            raise VersionNotFound(catalog="any", version=version_id[:50])
        return _version_view(rows[0])

    async def _changeable(self, identity: str) -> Document:
        found = await self.get(identity)
        if found["id"] == DEMO_ID:
            name = f"{found['providerKey']}/{found['catalogKey']}"
            raise CatalogReadOnly(catalog=name, reason="it is the demo catalog, the same on every machine")
        return found


def uuid(text: str) -> str:
    """The canonical form of a UUID in an address. Raises `QueryParameterInvalid`."""
    try:
        return str(UUID(text))
    except ValueError:
        refuse("id", "it must be a UUID")


def _view(row: tuple[Any, ...]) -> Document:
    source_tables = readable_tables(row[7])
    return {
        "id": row[0],
        "providerKey": row[1],
        "catalogKey": row[2],
        "label": row[3],
        "description": row[4],
        "domain": row[5],
        "schemaName": row[6],
        "sourceTables": source_tables,
        "ingestionTables": writable_tables(row[0], source_tables, row[8]),
        "isDemo": row[9],
        "active": True,
        "isPublic": False,
        "accessScope": "local",
        "createdAt": row[10],
        "updatedAt": row[11],
    }


def _version_view(row: tuple[Any, ...]) -> Document:
    names = ("id", "catalogId", "versionLabel", "mode", "parentVersionId", "rowCounts", "createdAt", "readyAt")
    return {**dict(zip(names, row, strict=True)), "status": "ready"}
