"""Catalogs and versions, as the directory holds them."""

from __future__ import annotations

from typing import Any

import attrs

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from devkit_api.catalogs.imports.targets import TARGETS
from devkit_api.catalogs.writer import TABLES

DEMO_ID = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
READABLE = (*TABLES, "sample_peptide_binders")


def readable_tables(source_tables: list[str] | None) -> list[str]:
    """The tables a catalog declares; all of them where it declares none."""
    return list(READABLE) if source_tables is None else source_tables


def writable_tables(identity: str, tables: list[str], ingestion_tables: list[str] | None) -> list[str]:
    """What ingestion may fill: what the catalog says, else the readable ones imports know. Nothing of the demo's."""
    if identity == DEMO_ID:
        return []
    return [table for table in tables if table in TARGETS] if ingestion_tables is None else ingestion_tables


@attrs.frozen
class Version:
    """A ready version and the segments it sees. `signed_scope` opens exactly these to the SQL role."""

    version_id: str
    label: str
    segments: list[int]
    row_counts: dict[str, int]
    ready_at: str
    signed_scope: str = attrs.field(repr=False)

    def view(self) -> dict[str, Any]:
        """As `currentVersion` (wire-contract F.1)."""
        return {
            "id": self.version_id,
            "versionLabel": self.label,
            "rowCounts": self.row_counts,
            "status": "ready",
            "readyAt": self.ready_at,
        }


@attrs.frozen
class Catalog:
    """A catalog with its ready versions, newest first."""

    versions: tuple[Version, ...]
    catalog_id: str
    provider: str
    key: str
    label: str
    description: str
    domain: str
    schema_name: str
    source_tables: list[str] | None
    ingestion_tables: list[str] | None
    is_demo: bool

    @property
    def name(self) -> str:
        """`provider/catalog`."""
        return f"{self.provider}/{self.key}"

    def version(self, asked: str | None) -> Version | None:
        """The current version, or the one with this id or label."""
        if asked is None:
            return self.versions[0] if self.versions else None
        return next((v for v in self.versions if asked in {v.version_id, v.label}), None)

    def view(self) -> dict[str, Any]:
        """As a record of `GET /v1/data-catalogs` (wire-contract F.1)."""
        tables = readable_tables(self.source_tables)
        return {
            "id": self.catalog_id,
            "providerKey": self.provider,
            "catalogKey": self.key,
            "label": self.label,
            "description": self.description,
            "domain": self.domain,
            "schemaName": self.schema_name,
            "sourceTables": tables,
            "ingestionTables": writable_tables(self.catalog_id, tables, self.ingestion_tables),
            "active": True,
            "isPublic": True,
            "isDemo": self.is_demo,
            "accessScope": "local",
            "currentVersion": self.versions[0].view() if self.versions else None,
        }


@attrs.frozen
class Scope:
    """What one request reads: a catalog at a version."""

    catalog: Catalog
    version: Version

    @property
    def segments(self) -> list[int]:
        """For `segment = ANY(%s)`."""
        return self.version.segments
