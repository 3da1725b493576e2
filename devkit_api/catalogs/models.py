"""Catalogs and versions, as the directory holds them."""

from __future__ import annotations

from typing import Any

import attrs


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
    active: bool
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

    def view(self, tables: list[str]) -> dict[str, Any]:
        """As a record of `GET /v1/data-catalogs` (wire-contract F.1)."""
        return {
            "id": self.catalog_id,
            "providerKey": self.provider,
            "catalogKey": self.key,
            "label": self.label,
            "description": self.description,
            "domain": self.domain,
            "schemaName": "observation",
            "sourceTables": tables,
            "active": self.active,
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
