"""What the devkit knows of a module."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID, uuid5

import attrs

from devkit_api.state import Document

SUSPENDED = "suspended"
_IDS = UUID("6f0a3c2e-5d1b-5c55-9a7e-0d0e1c5ad3f1")


class Origin(enum.StrEnum):
    """How a module version came to be registered."""

    DIRECTORY = "directory"  # watched folder
    PATH = "path"  # `source.path` of a request
    UPLOAD = "upload"  # zip in a request
    EXTERNAL = "external"  # no source: a backend attaches to its runs
    PUBLISHED = "published"  # examined by the publish intake; never changes


@attrs.frozen
class Bundle:
    """An immutable copy of a module's source. `digest` is sha256 over names and contents, in hex."""

    digest: str
    file_count: int
    size_bytes: int


@attrs.frozen
class Module:
    """One registered version of a module. `manifest` is kept as it came, unknown keys included."""

    module_id: str
    version: str
    manifest: dict[str, Any]
    origin: Origin
    registered_at: str
    bundle: Bundle | None = None
    source_path: str | None = None
    source_problem: str | None = None
    state: str = "active"
    image_ref: str | None = None
    notes: str | None = None

    @property
    def uuid(self) -> str:
        """The module's id as a UUID, which the SDK's deployment calls insist on: its own, or one made from it."""
        try:
            return str(UUID(self.module_id))
        except ValueError:
            return str(uuid5(_IDS, self.module_id))

    @property
    def is_suspended(self) -> bool:
        """Whether it starts no runs."""
        return self.state == SUSPENDED

    @property
    def is_external(self) -> bool:
        """Whether runs wait for a backend to attach instead of being executed."""
        return self.bundle is None

    @property
    def key(self) -> str:
        """The document key: one document per version."""
        return f"{self.module_id}@{self.version}"

    @property
    def entrypoint(self) -> str:
        """`package.module:Class` of the manifest."""
        return str(self.manifest["execution"]["entrypoint"])

    @property
    def inputs(self) -> dict[str, Any] | None:
        """JSON Schema of the parameters, or None when everything is accepted."""
        return self.manifest.get("inputs") or None

    @property
    def max_runtime_seconds(self) -> int:
        """The manifest's wall-clock limit; the SDK's default is an hour."""
        resources = self.manifest.get("resources") or {}
        return int(resources.get("maxRuntimeSeconds") or resources.get("timeout") or 3600)

    @property
    def memory_mb(self) -> int | None:
        """The manifest's memory in MiB, if it names one."""
        resources = self.manifest.get("resources") or {}
        value = resources.get("memoryMb") or resources.get("memory")
        return int(value) if value else None

    @property
    def has_network(self) -> bool:
        """Whether runs reach more than the devkit; `"network": false` in the manifest says no."""
        return self.manifest.get("network") is not False

    @property
    def required_roles(self) -> frozenset[str]:
        """Roles that may start the module; none named means every role."""
        return frozenset((self.manifest.get("permissions") or {}).get("requiredRoles") or ())

    @property
    def modes(self) -> list[str]:
        """How a run of it may be started."""
        return list(self.manifest["execution"].get("supports") or ["interactive"])

    @property
    def has_page(self) -> bool:
        """Whether it brings a page of its own."""
        return bool(self.manifest["type"] == "with-ui")

    @property
    def default_mode(self) -> str:
        """Mode of a run that does not name one."""
        execution = self.manifest["execution"]
        usual = "interactive" if "interactive" in self.modes else self.modes[0]
        return str(execution.get("defaultMode") or usual)

    @property
    def environment_variables(self) -> dict[str, str]:
        """Variables the manifest gives its process."""
        return {str(k): _as_text(v) for k, v in (self.manifest.get("environment_variables") or {}).items()}

    def summary(self) -> dict[str, Any]:
        """The module as lists show it (wire-contract B.1: what the CLI prints must be strings)."""
        manifest = self.manifest
        return {
            "id": self.module_id,
            "name": manifest["name"],
            "display_name": str(manifest.get("displayName") or manifest["name"]),
            "version": self.version,
            "state": self.state,
            "deploymentStatus": "external" if self.is_external else "ready",
            "description": str(manifest.get("description") or ""),
            "type": manifest["type"],
            "computeType": str(manifest.get("computeType") or "fargate"),
            "category": str(manifest.get("category") or ""),
            "tags": manifest.get("tags") or [],
            "visibility": str(manifest.get("scope") or "org"),
            "permissions": manifest.get("permissions") or {},
            "pricing": manifest.get("pricing") or {},
            "external": self.is_external,
            "registeredAt": self.registered_at,
        }

    def details(self) -> dict[str, Any]:
        """The module as `GET /v1/modules/{id}` shows it."""
        source: dict[str, Any] = {"origin": self.origin.value}
        if self.bundle is not None:
            source |= {"digest": self.bundle.digest, "files": self.bundle.file_count, "bytes": self.bundle.size_bytes}
        if self.image_ref is not None:
            source["imageRef"] = self.image_ref
        status = {"ok": self.source_problem is None, "problem": self.source_problem}
        about = {"uuid": self.uuid, "notes": self.notes}
        return {**self.summary(), **about, "manifest": self.manifest, "source": source, "sourceStatus": status}

    def to_document(self) -> Document:
        """The stored form."""
        return attrs.asdict(self, value_serializer=lambda _i, _a, v: v.value if isinstance(v, Origin) else v)

    @classmethod
    def from_document(cls, document: Document) -> Module:
        """Read the stored form; raises `KeyError`, `TypeError` or `ValueError` when it is not one."""
        texts = [document[name] for name in ("module_id", "version", "registered_at")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a module's id, version and time are texts")
        bundle = document["bundle"]
        known = {field.name for field in attrs.fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        return cls(**{**values, "origin": Origin(document["origin"]), "bundle": Bundle(**bundle) if bundle else None})


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
