"""Uploads of files to import, as the database has them. States change by compare-and-set on the state version."""

from __future__ import annotations

from typing import Any

import attrs
import psycopg2

from devkit_api.catalogs.control.admin import uuid
from devkit_api.catalogs.control.schemas import MAX_PARTS_PER_REQUEST
from devkit_api.catalogs.service import CatalogService
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import CatalogNotFound, CatalogUploadNotFound, IdempotencyKeyReused, StateConflict

_COLUMNS = (
    "upload_id::text, catalog_id::text, idempotency_key, filename, size_bytes, sha256, content_type, part_bytes,"
    " status, state_version, reason, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}',"
    " to_json(expires_at)#>>'{}'"
)
_FIND = f"SELECT {_COLUMNS} FROM devkit.catalog_uploads WHERE "  # noqa: S608  names of this module
_BEGIN = (
    "INSERT INTO devkit.catalog_uploads (catalog_id, idempotency_key, filename, size_bytes, sha256,"  # noqa: S608
    " content_type, part_bytes) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
    f" RETURNING {_COLUMNS}"
)
_MOVE = (
    "UPDATE devkit.catalog_uploads SET status = %s, reason = %s, state_version = state_version + 1,"  # noqa: S608
    f" updated_at = now() WHERE upload_id = %s AND state_version = %s RETURNING {_COLUMNS}"
)
# A claimed file waits a week for its ingestion, and longer for one that is queued, at work or may be tried again.
_EXPIRE = """
UPDATE devkit.catalog_uploads u SET status = 'expired', state_version = state_version + 1, updated_at = now()
 WHERE (status = 'uploading' AND expires_at < now())
    OR (status = 'claimed' AND updated_at < now() - interval '7 days' AND NOT EXISTS (
        SELECT FROM devkit.ingestions i
         WHERE i.catalog_id = u.catalog_id AND (i.status IN ('queued', 'running') OR i.retryable)
           AND strpos(i.sources::text, u.upload_id::text) > 0))
RETURNING 1"""
_IN_USE = "SELECT upload_id::text FROM devkit.catalog_uploads WHERE status IN ('uploading', 'verifying', 'claimed')"


@attrs.frozen
class Upload:
    """One upload, as the database has it. Sizes in bytes."""

    upload_id: str
    catalog_id: str
    idempotency_key: str
    filename: str
    size: int
    sha256: str
    content_type: str
    part_bytes: int
    status: str
    state_version: int
    reason: str | None
    created_at: str
    updated_at: str
    expires_at: str

    @property
    def part_count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.part_bytes)

    def part_size(self, number: int) -> int:
        """Bytes of part `number`, from 1."""
        return self.part_bytes if number < self.part_count else self.size - self.part_bytes * (self.part_count - 1)

    def part_name(self, number: int) -> str:
        """The object of a part."""
        return f"{self.upload_id}/part-{number:06d}"

    @property
    def file_name(self) -> str:
        """The object of the whole file; its ending tells it from the parts."""
        return f"{self.upload_id}/{self.filename}"

    def check_state(self, status: str, state_version: int) -> None:
        """Raises `StateConflict` when the upload is not in this state."""
        if self.status != status or self.state_version != state_version:
            reason = f"this needs {status!r} at the stateVersion you name"
            raise StateConflict(status=self.status, state_version=self.state_version, reason=reason)

    def view(self, uri: str) -> dict[str, Any]:
        """For answers; `uri` is what an ingestion names the file by, once it is claimed."""
        found: dict[str, Any] = {
            "uploadId": self.upload_id,
            "catalogId": self.catalog_id,
            "filename": self.filename,
            "declaredSizeBytes": self.size,
            "declaredSHA256": self.sha256,
            "contentType": self.content_type,
            "status": self.status,
            "stateVersion": self.state_version,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }
        if self.status == "uploading":
            found["expiresAt"] = self.expires_at
            found["partSigning"] = {
                "partSizeBytes": self.part_bytes,
                "partCount": self.part_count,
                "maxPartsPerRequest": MAX_PARTS_PER_REQUEST,
            }
        if self.status == "claimed":
            found["s3Uri"] = uri
        if self.reason:
            found["reason"] = self.reason
        return found


class UploadRecords:
    """Uploads of all catalogs."""

    def __init__(self, catalogs: CatalogService) -> None:
        self._catalogs = catalogs

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def begin(self, catalog_id: str, body: dict[str, Any], part_bytes: int) -> Upload:
        """A new upload, or the one this idempotency key began. Raises `IdempotencyKeyReused`, `CatalogNotFound`."""
        wanted = (body["filename"], body["declaredSizeBytes"], body["declaredSHA256"], body["contentType"])
        key = body["idempotencyKey"]
        try:
            made = await write(self._pool, _BEGIN, [catalog_id, key, *wanted, part_bytes])
        except psycopg2.errors.ForeignKeyViolation:  # it was purged a moment ago
            raise CatalogNotFound(catalog=catalog_id) from None
        if made:
            return Upload(*made[0])
        rows = await fetch(self._pool, _FIND + "catalog_id = %s AND idempotency_key = %s", [catalog_id, key])
        if not rows:
            raise CatalogNotFound(catalog=catalog_id)  # the upload was there a moment ago, and went with it
        known = Upload(*rows[0])
        if wanted != (known.filename, known.size, known.sha256, known.content_type):
            raise IdempotencyKeyReused
        return known

    async def get(self, upload_id: str, catalog_id: str | None = None) -> Upload:
        """One upload, of this catalog if it is named. Raises `CatalogUploadNotFound`."""
        rows = await fetch(self._pool, _FIND + "upload_id = %s", [uuid(upload_id)])
        if not rows or (catalog_id is not None and rows[0][1] != uuid(catalog_id)):
            raise CatalogUploadNotFound(upload_id=upload_id[:50])
        return Upload(*rows[0])

    async def find(self, upload_id: str, catalog_id: str) -> Upload | None:
        """One upload of a catalog, by a text that may be no id at all."""
        rows = await fetch(self._pool, _FIND + "catalog_id = %s AND upload_id::text = %s", [catalog_id, upload_id])
        return Upload(*rows[0]) if rows else None

    async def verifying(self) -> list[Upload]:
        """Uploads whose bytes are being looked at, or were when the devkit ended."""
        return [Upload(*row) for row in await fetch(self._pool, _FIND + "status = 'verifying'")]

    async def move(self, upload: Upload, status: str, reason: str | None = None) -> Upload:
        """Another state. Raises `StateConflict` when someone was faster."""
        rows = await write(self._pool, _MOVE, [status, reason, upload.upload_id, upload.state_version])
        if not rows:
            raise StateConflict(status="changed", state_version=upload.state_version + 1, reason="someone was faster")
        return Upload(*rows[0])

    async def expire(self) -> None:
        """Give up uploads that were never completed, and claimed files that nobody ingests."""
        await write(self._pool, _EXPIRE)

    async def in_use(self) -> set[str]:
        """Ids of uploads that have not ended."""
        return {row[0] for row in await fetch(self._pool, _IN_USE)}
