"""Uploads of files to import (wire-contract F.2): planned parts, signed addresses, verified content.

uploading → verifying → claimed | quarantined; uploading → aborted | expired. Parts are objects of the object store;
the whole file becomes one when its SHA-256 is the declared one, and only then it may be ingested.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiofiles.tempfile
import attrs

from devkit_api.catalogs.control.admin import CatalogAdmin, uuid
from devkit_api.catalogs.control.schemas import MAX_PARTS_PER_REQUEST
from devkit_api.catalogs.imports.files import FORMATS
from devkit_api.catalogs.models import DEMO_ID
from devkit_api.catalogs.service import CatalogService
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import (
    CatalogReadOnly,
    CatalogUploadInvalid,
    CatalogUploadNotFound,
    ChecksumMismatch,
    IdempotencyKeyReused,
    ObjectNotFound,
    StateConflict,
)
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.namespaces import uri as uri_of
from devkit_api.objects.protocol import Expected, ObjectInfo, ObjectStore
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.public_address import PublicAddress

log = logging.getLogger(__name__)
Document = dict[str, Any]

NAMESPACE = CATALOG_IMPORTS
PART_BYTES = 8 * 1024 * 1024
_SIGNED_SECONDS = 3600
# Small files are verified before the answer, so that nobody has to poll for them.
_WAIT_SECONDS = 1.0
_COLUMNS = (
    "upload_id::text, catalog_id::text, idempotency_key, filename, size_bytes, sha256, content_type, part_bytes,"
    " status, state_version, reason, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}',"
    " to_json(expires_at)#>>'{}'"
)
_EXPIRE = """
UPDATE devkit.catalog_uploads SET status = 'expired', state_version = state_version + 1, updated_at = now()
 WHERE status = 'uploading' AND expires_at < now() RETURNING upload_id::text"""


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


class UploadService:
    """Uploads of all catalogs."""

    def __init__(
        self, catalogs: CatalogService, admin: CatalogAdmin, objects: ObjectStore, signer: UrlSigner, *,
        address: PublicAddress, bucket: str, max_bytes: int,
    ) -> None:  # fmt: skip
        self._catalogs, self._admin, self._objects, self._signer = catalogs, admin, objects, signer
        self._address = address
        self._bucket, self._max_bytes = bucket, max_bytes
        self._part_bytes = min(PART_BYTES, max_bytes)
        self._verifying: set[asyncio.Task[None]] = set()

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def open(self) -> None:
        """Go on with what an earlier devkit was verifying, and forget what expired."""
        for row in await write(self._pool, _EXPIRE):
            await self._drop(row[0])
        statement = f"SELECT {_COLUMNS} FROM devkit.catalog_uploads WHERE status = 'verifying'"  # noqa: S608
        for row in await fetch(self._pool, statement):
            self._verify_soon(Upload(*row))

    async def close(self) -> None:
        """Stop verifying; the next start goes on."""
        for task in self._verifying:
            task.cancel()
        if self._verifying:
            await asyncio.wait(self._verifying)

    async def begin(self, catalog_id: str, body: Document) -> Document:
        """Plan an upload, or answer the one this idempotency key began."""
        catalog = await self._admin.get(catalog_id)
        if catalog["id"] == DEMO_ID:
            raise CatalogReadOnly(catalog=f"{catalog['providerKey']}/{catalog['catalogKey']}", reason="it is the demo")
        if body["declaredSizeBytes"] > self._max_bytes:
            raise CatalogUploadInvalid(reason=f"a file may have {self._max_bytes} bytes (DEVKIT_MAX_OBJECT_BYTES)")
        if not body["filename"].lower().removesuffix(".gz").endswith(FORMATS):
            raise CatalogUploadInvalid(reason=f"the name of the file must end in one of {', '.join(FORMATS)}")
        wanted = (body["filename"], body["declaredSizeBytes"], body["declaredSHA256"], body["contentType"])
        key = body["idempotencyKey"]
        made = await write(
            self._pool,
            "INSERT INTO devkit.catalog_uploads (catalog_id, idempotency_key, filename, size_bytes, sha256,"  # noqa: S608
            " content_type, part_bytes) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
            f" RETURNING {_COLUMNS}",
            [catalog["id"], key, *wanted, self._part_bytes],
        )
        if made:
            return self.view(Upload(*made[0]))
        statement = f"SELECT {_COLUMNS} FROM devkit.catalog_uploads WHERE catalog_id = %s AND idempotency_key = %s"  # noqa: S608
        known = Upload(*(await fetch(self._pool, statement, [catalog["id"], key]))[0])
        if wanted != (known.filename, known.size, known.sha256, known.content_type):
            raise IdempotencyKeyReused
        return self.view(known)

    async def get(self, catalog_id: str, upload_id: str) -> Upload:
        """One upload of a catalog. Raises `CatalogUploadNotFound`."""
        for row in await write(self._pool, _EXPIRE):
            await self._drop(row[0])
        statement = f"SELECT {_COLUMNS} FROM devkit.catalog_uploads WHERE catalog_id = %s AND upload_id = %s"  # noqa: S608
        rows = await fetch(self._pool, statement, [uuid(catalog_id), uuid(upload_id)])
        if not rows:
            raise CatalogUploadNotFound(upload_id=upload_id[:50])
        return Upload(*rows[0])

    async def sign(self, catalog_id: str, upload_id: str, parts: list[Document]) -> Document:
        """Addresses to put parts to, each for exactly the announced bytes."""
        upload = await self.get(catalog_id, upload_id)
        self._in_state(upload, "uploading", upload.state_version)
        signed = []
        for part in parts:
            number = self._part_number(upload, part)
            expected = Expected(upload.part_size(number), part["checksumSHA256"])
            url = self._signer.put_url(
                self._address.base_url, NAMESPACE, upload.part_name(number), seconds=_SIGNED_SECONDS, expected=expected,
                info={"content_type": "application/octet-stream", "metadata": {}},
            )  # fmt: skip
            checksum = base64.b64encode(bytes.fromhex(expected.sha256)).decode()
            signed.append(
                {"partNumber": number, "checksumSHA256": checksum, "sizeBytes": expected.size, "uploadUrl": url}
            )
        return {"uploadId": upload.upload_id, "parts": signed, "expiresIn": _SIGNED_SECONDS}

    async def check_part(self, name: str) -> None:
        """Whether a part may still be put. Raises `CatalogUploadNotFound`, `StateConflict`."""
        upload_id = name.partition("/")[0]
        statement = "SELECT status, state_version FROM devkit.catalog_uploads WHERE upload_id = %s"
        rows = await fetch(self._pool, statement, [uuid(upload_id)])
        if not rows:
            raise CatalogUploadNotFound(upload_id=upload_id[:50])
        if rows[0][0] != "uploading":
            raise StateConflict(status=rows[0][0], state_version=rows[0][1], reason="it takes no more parts")

    async def complete(self, catalog_id: str, upload_id: str, body: Document) -> Document:
        """All parts are there: verify the whole. Answers at once, or when a small file is verified."""
        upload = await self.get(catalog_id, upload_id)
        self._in_state(upload, "uploading", body["stateVersion"])
        await self._check_parts(upload, body["parts"])
        verifying = await self._move(upload, "verifying")
        task = self._verify_soon(verifying)
        await asyncio.wait([task], timeout=_WAIT_SECONDS)
        return self.view(await self.get(catalog_id, upload_id))

    async def abort(self, catalog_id: str, upload_id: str, state_version: int) -> Document:
        """Give an upload up; what was sent is removed."""
        upload = await self.get(catalog_id, upload_id)
        self._in_state(upload, "uploading", state_version)
        aborted = await self._move(upload, "aborted")
        await self._drop(upload.upload_id)
        return self.view(aborted)

    @asynccontextmanager
    async def as_file(self, upload: Upload) -> AsyncIterator[Path]:
        """The bytes of a claimed upload as a file of this machine. Raises `ObjectNotFound`."""
        info = await self._objects.stat(NAMESPACE, upload.file_name)
        if info is None:
            raise ObjectNotFound(key=upload.filename)
        path = await self._objects.local_path(NAMESPACE, info)
        if path is not None:
            yield path
            return
        async with aiofiles.tempfile.NamedTemporaryFile(prefix="devkit-import-") as copy:
            async for chunk in self._objects.read(NAMESPACE, info.name, version=info.version):
                await copy.write(chunk)
            await copy.flush()
            yield Path(str(copy.name))

    async def of_uri(self, catalog_id: str, uri: str) -> Upload | None:
        """The upload whose `s3Uri` this is."""
        prefix = uri_of(self._bucket, NAMESPACE, "")
        identity = uri.removeprefix(prefix).partition("/")[0] if uri.startswith(prefix) else ""
        statement = f"SELECT {_COLUMNS} FROM devkit.catalog_uploads WHERE catalog_id = %s AND upload_id::text = %s"  # noqa: S608
        rows = await fetch(self._pool, statement, [catalog_id, identity])
        found = Upload(*rows[0]) if rows else None
        return found if found and self.uri(found) == uri else None

    async def clear(self) -> None:
        """Remove every stored byte; the rows go with the catalogs."""
        await self.close()
        await self._objects.delete_namespace(NAMESPACE)

    def uri(self, upload: Upload) -> str:
        """The address an ingestion names the file by."""
        return uri_of(self._bucket, NAMESPACE, upload.file_name)

    def view(self, upload: Upload) -> Document:
        """For answers."""
        found: Document = {
            "uploadId": upload.upload_id,
            "catalogId": upload.catalog_id,
            "filename": upload.filename,
            "declaredSizeBytes": upload.size,
            "declaredSHA256": upload.sha256,
            "contentType": upload.content_type,
            "status": upload.status,
            "stateVersion": upload.state_version,
            "createdAt": upload.created_at,
            "updatedAt": upload.updated_at,
        }
        if upload.status == "uploading":
            found["expiresAt"] = upload.expires_at
            found["partSigning"] = {
                "partSizeBytes": upload.part_bytes,
                "partCount": upload.part_count,
                "maxPartsPerRequest": MAX_PARTS_PER_REQUEST,
            }
        if upload.status == "claimed":
            found["s3Uri"] = self.uri(upload)
        if upload.reason:
            found["reason"] = upload.reason
        return found

    @staticmethod
    def _in_state(upload: Upload, status: str, state_version: int) -> None:
        if upload.status != status or upload.state_version != state_version:
            reason = f"this needs {status!r} at the stateVersion you name"
            raise StateConflict(status=upload.status, state_version=upload.state_version, reason=reason)

    @staticmethod
    def _part_number(upload: Upload, part: Document) -> int:
        number: int = part["partNumber"]
        if number > upload.part_count:
            raise CatalogUploadInvalid(reason=f"there is no part {number}, the plan has {upload.part_count}")
        return number

    async def _check_parts(self, upload: Upload, parts: list[Document]) -> None:
        """Every planned part once, stored, and the very bytes the caller means."""
        if sorted(part["partNumber"] for part in parts) != list(range(1, upload.part_count + 1)):
            raise CatalogUploadInvalid(reason=f"it has {upload.part_count} part(s), and each must be named once")
        for part in parts:
            stored = await self._objects.stat(NAMESPACE, upload.part_name(part["partNumber"]))
            if stored is None or not _is_this(stored, part):
                raise CatalogUploadInvalid(
                    reason=f"part {part['partNumber']} is not stored with this etag and checksum"
                )

    async def _move(self, upload: Upload, status: str, reason: str | None = None) -> Upload:
        rows = await write(
            self._pool,
            "UPDATE devkit.catalog_uploads SET status = %s, reason = %s, state_version = state_version + 1,"  # noqa: S608
            f" updated_at = now() WHERE upload_id = %s AND state_version = %s RETURNING {_COLUMNS}",
            [status, reason, upload.upload_id, upload.state_version],
        )
        if not rows:
            raise StateConflict(status="changed", state_version=upload.state_version + 1, reason="someone was faster")
        return Upload(*rows[0])

    def _verify_soon(self, upload: Upload) -> asyncio.Task[None]:
        task = asyncio.create_task(self._verify(upload))
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)
        return task

    async def _verify(self, upload: Upload) -> None:
        """Join the parts; the store refuses bytes that are not the declared ones."""
        try:
            info = {"content_type": upload.content_type, "metadata": {}}
            expected = Expected(upload.size, upload.sha256)
            await self._objects.put(NAMESPACE, upload.file_name, self._joined(upload), expected, info)
            await self._move(upload, "claimed")
        except ChecksumMismatch:
            await self._move(upload, "quarantined", "the bytes do not have the declared SHA-256")
        except Exception:
            # It stays `verifying`; the next start tries again.
            log.exception("an upload could not be verified", extra={"upload": upload.upload_id})
            return
        for number in range(1, upload.part_count + 1):
            await self._objects.delete(NAMESPACE, upload.part_name(number))

    async def _joined(self, upload: Upload) -> AsyncIterator[bytes]:
        for number in range(1, upload.part_count + 1):
            async for chunk in self._objects.read(NAMESPACE, upload.part_name(number)):
                yield chunk

    async def _drop(self, upload_id: str) -> None:
        """Remove the parts of an upload that ends here."""
        after = ""
        while True:
            found, more = await self._objects.list(NAMESPACE, prefix=f"{upload_id}/", after=after, limit=1000)
            for info in found:
                await self._objects.delete(NAMESPACE, info.name)
            if more is None:
                return
            after = more


def _is_this(stored: ObjectInfo, part: Document) -> bool:
    return bool(part["etag"].strip('"') == stored.version and part["checksumSHA256"] == stored.sha256)
