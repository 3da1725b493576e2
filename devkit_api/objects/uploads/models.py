"""An upload in parts, from its plan to its file."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from devkit_api.objects.namespaces import UPLOADS, uri
from devkit_api.objects.protocol import Begun, Part

COLLECTION = "uploads"
UPLOADING, COMPLETING, COMPLETE, CANCELLED, EXPIRED = "uploading", "completing", "complete", "cancelled", "expired"


@attrs.frozen
class Upload:
    """One upload as it is stored. Sizes in bytes; `revision` counts changes of `status`."""

    upload_id: str
    source_id: str
    user_id: str
    organization_id: str
    filename: str
    prefix: str
    content_type: str
    size: int
    part_bytes: int
    store_id: str
    created_at: str
    expires_at: str
    status: str = UPLOADING
    revision: int = 0
    version: str | None = None
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The object it becomes. Its id first: two files of one name stay two."""
        return f"{self.upload_id}/{self.prefix}{self.filename}"

    @property
    def begun(self) -> Begun:
        """What the object store knows it by until it is complete."""
        return Begun(UPLOADS, self.name, self.store_id)

    @property
    def part_count(self) -> int:
        """How many parts there are; an empty file has one, an empty one."""
        return max(1, -(-self.size // self.part_bytes))

    def part_size(self, number: int) -> int:
        """Bytes of part `number`, from 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    @property
    def is_over(self) -> bool:
        """Whether it waited too long for its parts, or to be completed; not, while that is being done."""
        return self.status in {UPLOADING, COMPLETING} and self._ends_before(datetime.now(UTC))

    @property
    def is_open(self) -> bool:
        """Whether parts may still come."""
        return self.status == UPLOADING and not self.is_over

    @property
    def owner(self) -> tuple[str, str]:
        """Who began it: user and organisation."""
        return self.user_id, self.organization_id

    def is_old(self, age: timedelta) -> bool:
        """Whether its time ended more than `age` ago."""
        return self._ends_before(datetime.now(UTC) - age)

    def with_part(self, part: Part) -> Upload:
        """With a part stored, in place of an earlier one."""
        others = [other for other in self.parts if other.number != part.number]
        return attrs.evolve(self, parts=tuple(sorted([*others, part], key=lambda part: part.number)))

    def moved(self, status: str, **changes: Any) -> Upload:
        """In its next status."""
        return attrs.evolve(self, status=status, revision=self.revision + 1, **changes)

    @property
    def checksum(self) -> str:
        """SHA-256 of the SHA-256s of its parts, and their number: S3's composite checksum."""
        digest = hashlib.sha256(b"".join(bytes.fromhex(part.sha256) for part in self.parts)).digest()
        return f"{base64.b64encode(digest).decode()}-{len(self.parts)}"

    def _ends_before(self, moment: datetime) -> bool:
        return datetime.fromisoformat(self.expires_at) < moment

    def view(self, bucket: str) -> dict[str, Any]:
        """The receipt (wire-contract G)."""
        is_complete = self.status == COMPLETE
        return {
            "uploadId": self.upload_id,
            "sourceId": self.source_id,
            "filename": self.filename,
            "prefix": self.prefix,
            "contentType": self.content_type,
            "declaredSizeBytes": self.size,
            "partSizeBytes": self.part_bytes,
            "partCount": self.part_count,
            "status": self.status,
            "revision": self.revision,
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "verifiedComplete": is_complete,
            "parts": [
                {
                    "partNumber": part.number,
                    "sizeBytes": part.size,
                    "checksumSHA256": base64_of(part.sha256),
                    "etag": part.etag,
                }
                for part in self.parts
            ],
            **(
                {
                    "versionId": self.version,
                    "transportChecksumSHA256": self.checksum,
                    "s3Uri": uri(bucket, UPLOADS, self.name),
                }
                if is_complete
                else {}
            ),
        }


def base64_of(sha256: str) -> str:
    """A SHA-256 in hex, as the SDK writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def stored(document: dict[str, Any]) -> Upload:
    """An upload from its document. Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    parts = tuple(Part(**part) for part in document.pop("parts"))
    datetime.fromisoformat(document["expires_at"])
    return Upload(**document, parts=parts)
