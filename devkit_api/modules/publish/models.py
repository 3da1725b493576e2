"""What the devkit knows of a publication."""

from __future__ import annotations

import enum
import hashlib
from typing import Any

import attrs

from devkit_api.state import Document

BUILD_NOTE = (
    "no image is built: runs use the devkit's own Python where it has what requirements.txt asks for, "
    "else an environment made from the lock"
)


class Status(enum.StrEnum):
    """Where a publication stands; the SDK knows the last two as ends."""

    AWAITING_UPLOAD = "awaiting_upload"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class Phase(enum.StrEnum):
    """What is being looked at, in this order."""

    UPLOAD = "upload"
    QUEUED = "queued"
    ARCHIVE = "archive"
    SIGNATURE = "signature"
    MANIFEST = "manifest"
    DEPENDENCIES = "dependencies"
    REGISTRATION = "registration"


@attrs.frozen
class Failure:
    """Why and where a publication failed: a code of the catalogue, and its message."""

    code: str
    reason: str
    phase: str


@attrs.frozen
class Publication:
    """One publication. `evidence` is the digest of what was asked for: a replay must ask for the same."""

    publish_id: str
    user_id: str
    organization_id: str
    evidence: str
    manifest: dict[str, Any]
    scope: str
    status: Status
    phase: Phase
    created_at: str
    expires: int  # seconds since the epoch: until then the upload may come
    sha256: str | None = None
    size_bytes: int | None = None
    image_ref: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    failure: Failure | None = None
    module_id: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in {Status.COMPLETED, Status.FAILED}

    def answer(self) -> dict[str, Any]:
        """The status as wire-contract B.4 reads it."""
        found: dict[str, Any] = {
            "publishId": self.publish_id,
            "status": self.status.value,
            "currentPhase": self.phase.value,
            "moduleName": self.manifest["name"],
            "version": self.manifest["version"],
            "scope": self.scope,
            "startTime": self.started_at or self.created_at,
            "endTime": self.ended_at,
            "message": self._message(),
            "warnings": list(self.warnings),
            "trustPolicySource": "devkit: the signature must fit the key in the manifest",
        }
        if self.module_id is not None:
            found["moduleId"] = self.module_id
        if self.failure is not None:
            found |= {
                "failureReason": f"{self.failure.code}: {self.failure.reason}",
                "failureCode": self.failure.code,
                "failurePhase": self.failure.phase,
            }
        return found

    def _message(self) -> str:
        if self.status is Status.FAILED:
            return "Nothing was registered."
        if self.image_ref is not None:
            return "Recorded as an external module: the image is not run here, its runs wait for a backend to attach."
        return f"Of the source, {BUILD_NOTE}."

    def to_document(self) -> Document:
        """The stored form."""
        return attrs.asdict(self, value_serializer=lambda _i, _a, v: v.value if isinstance(v, enum.Enum) else v)

    @classmethod
    def from_document(cls, document: Document) -> Publication:
        """Read the stored form; raises `KeyError`, `TypeError` or `ValueError` when it is not one."""
        known = {field.name for field in attrs.fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        if not isinstance(values["publish_id"], str) or not isinstance(values["manifest"], dict):
            raise TypeError("a publication has an id and a manifest")
        failure = values.get("failure")
        return cls(
            **{
                **values,
                "status": Status(values["status"]),
                "phase": Phase(values["phase"]),
                "failure": Failure(**failure) if failure else None,
                "warnings": tuple(values.get("warnings") or ()),
            }
        )


def publish_id_of(user_id: str, idempotency_key: str) -> str:
    """The id a key stands for. Made from the user as well: nobody meets another user's publication by its key."""
    digest = hashlib.sha256(f"{len(user_id)}:{user_id}:{idempotency_key}".encode()).hexdigest()
    return f"publish-{digest[:32]}"
