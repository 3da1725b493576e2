"""Uploads of files to import (wire-contract F.2): planned parts, signed addresses, verified content.

uploading → verifying → claimed | quarantined | aborted; uploading → aborted; uploading or claimed → expired. Parts
are objects of the object store; the whole file becomes one when its SHA-256 is the declared one, and only then it may
be ingested.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiofiles.tempfile

from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.away import AWAY, while_away
from devkit_api.catalogs.control.upload_records import Upload, UploadRecords
from devkit_api.catalogs.control.upload_sweep import UploadSweeper
from devkit_api.catalogs.imports.files import FORMATS
from devkit_api.catalogs.models import DEMO_ID
from devkit_api.catalogs.service import CatalogService
from devkit_api.errors import (
    CatalogReadOnly,
    CatalogUploadInvalid,
    CatalogUploadNotFound,
    ChecksumMismatch,
    IngestionInvalid,
    ObjectNotFound,
    ObjectReplaced,
    ObjectStoreUnavailable,
    StateConflict,
)
from devkit_api.locks import Gate, KeyedLocks
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.namespaces import uri as uri_of
from devkit_api.objects.protocol import Expected, ObjectInfo, ObjectStore
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.public_address import PublicAddress
from devkit_api.state import StateError

log = logging.getLogger(__name__)
Document = dict[str, Any]

NAMESPACE = CATALOG_IMPORTS
PART_BYTES = 8 * 1024 * 1024
_SIGNED_SECONDS = 3600
# Small files are verified before the answer, so that nobody has to poll for them.
_WAIT_SECONDS = 1.0
_PART_GONE = "a part is no longer stored; upload the file again, with another idempotency key"


class UploadService:
    """Uploads of all catalogs."""

    def __init__(
        self, catalogs: CatalogService, admin: CatalogAdmin, objects: ObjectStore, signer: UrlSigner, *,
        address: PublicAddress, bucket: str, max_bytes: int,
    ) -> None:  # fmt: skip
        self._admin, self._objects, self._signer = admin, objects, signer
        self._records = UploadRecords(catalogs)
        self._sweeper = UploadSweeper(self._records, objects, self._verify_soon)
        self._address = address
        self._bucket, self._max_bytes = bucket, max_bytes
        self._part_bytes = min(PART_BYTES, max_bytes)
        self._verifying: dict[str, asyncio.Task[None]] = {}
        self._to_verify: set[str] = set()
        self._locks, self._gate = KeyedLocks(), Gate()

    async def open(self) -> None:
        """Go on with what an earlier devkit was verifying, and remove what is too old."""
        self._sweeper.open()

    async def close(self) -> None:
        """Stop; the next start goes on."""
        await self._sweeper.close()
        await self._stop_verifying()

    async def _stop_verifying(self) -> None:
        tasks = list(self._verifying.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def begin(self, catalog_id: str, body: Document) -> Document:
        """Plan an upload, or answer the one this idempotency key began."""
        catalog = await self._admin.get(catalog_id)
        if catalog["id"] == DEMO_ID:
            raise CatalogReadOnly(catalog=f"{catalog['providerKey']}/{catalog['catalogKey']}", reason="it is the demo")
        if body["declaredSizeBytes"] > self._max_bytes:
            raise CatalogUploadInvalid(reason=f"a file may have {self._max_bytes} bytes (DEVKIT_MAX_OBJECT_BYTES)")
        if not body["filename"].lower().removesuffix(".gz").endswith(FORMATS):
            raise CatalogUploadInvalid(reason=f"the name of the file must end in one of {', '.join(FORMATS)}")
        return self.view(await self._records.begin(catalog["id"], body, self._part_bytes))

    async def get(self, catalog_id: str, upload_id: str) -> Upload:
        """One upload of a catalog. Raises `CatalogUploadNotFound`."""
        await self._records.expire()
        return await self._records.get(upload_id, catalog_id)

    async def sign(self, catalog_id: str, upload_id: str, parts: list[Document]) -> Document:
        """Addresses to put parts to, each for exactly the announced bytes."""
        upload = await self.get(catalog_id, upload_id)
        upload.check_state("uploading", upload.state_version)
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

    async def put_part(self, name: str, chunks: AsyncIterator[bytes], expected: Expected, info: Document) -> ObjectInfo:
        """Store a part that comes to a signed address. Raises `CatalogUploadNotFound`, `StateConflict`."""
        upload_id = name.partition("/")[0]
        await self._check_uploading(upload_id)
        async with AsyncExitStack() as until_stored:

            async def then_alone() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                # A sender may take long, and holds up nobody. From its last byte on the upload stays as it is found
                # here: nothing would ever remove a part that comes when they are joined or have been given up.
                until_stored.enter_context(self._gate.entered())
                await until_stored.enter_async_context(self._locks.of(upload_id))
                await self._check_uploading(upload_id)

            return await self._objects.put(NAMESPACE, name, then_alone(), expected, info)

    async def _check_uploading(self, upload_id: str) -> None:
        upload = await self._records.get(upload_id)
        if upload.status != "uploading":
            reason = "it takes no more parts"
            raise StateConflict(status=upload.status, state_version=upload.state_version, reason=reason)

    async def complete(self, catalog_id: str, upload_id: str, body: Document) -> Document:
        """All parts are there: verify the whole. Answers at once, or when a small file is verified."""
        upload = await self.get(catalog_id, upload_id)
        upload.check_state("uploading", body["stateVersion"])
        async with self._locks.of(upload.upload_id):
            await self._check_parts(upload, body["parts"])
            try:
                await self._records.move(upload, "verifying")
            except AWAY:
                self._verify_soon(upload)  # the connection may have been lost under a statement that took effect
                raise
        task = self._verify_soon(upload)
        await asyncio.wait([task], timeout=_WAIT_SECONDS)
        return self.view(await self.get(catalog_id, upload_id))

    async def abort(self, catalog_id: str, upload_id: str, state_version: int) -> Document:
        """Give an upload up; what was sent is removed."""
        upload = await self.get(catalog_id, upload_id)
        upload.check_state("uploading", state_version)
        async with self._locks.of(upload.upload_id):
            aborted = await self._records.move(upload, "aborted")
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

    async def claimed(self, catalog_id: str, uri: str) -> Upload:
        """The claimed upload whose `s3Uri` this is. Raises `IngestionInvalid`."""
        prefix = uri_of(self._bucket, NAMESPACE, "")
        identity = uri.removeprefix(prefix).partition("/")[0] if uri.startswith(prefix) else ""
        found = await self._records.find(identity, catalog_id)
        if found is None or found.status != "claimed" or self._uri(found) != uri:
            reason = (
                "has expired: upload it again" if found and found.status == "expired" else "is no claimed upload here"
            )
            raise IngestionInvalid(reason=f"{uri[:200]} {reason}")
        return found

    async def clear(self) -> None:
        """Remove every stored byte; the rows go with the catalogs."""
        await self._stop_verifying()
        async with self._gate.closed():
            await self._objects.delete_namespace(NAMESPACE)

    def view(self, upload: Upload) -> Document:
        """For answers."""
        return upload.view(self._uri(upload))

    def _uri(self, upload: Upload) -> str:
        """The address an ingestion names the file by."""
        return uri_of(self._bucket, NAMESPACE, upload.file_name)

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

    def _verify_soon(self, upload: Upload) -> asyncio.Task[None]:
        """The task that verifies an upload, begun if there is none. One at work looks once more: it may have found the
        upload as it was before it was completed.
        """
        upload_id = upload.upload_id
        self._to_verify.add(upload_id)
        if (task := self._verifying.get(upload_id)) is None or task.done():
            task = self._verifying[upload_id] = asyncio.create_task(self._verify_while_asked(upload_id))
            task.add_done_callback(lambda ended: self._forget(upload_id, ended))
        return task

    def _forget(self, upload_id: str, task: asyncio.Task[None]) -> None:
        if self._verifying.get(upload_id) is task:
            del self._verifying[upload_id]
            self._to_verify.discard(upload_id)

    async def _verify_while_asked(self, upload_id: str) -> None:
        while upload_id in self._to_verify:
            self._to_verify.remove(upload_id)
            await self._verify(upload_id)

    async def _verify(self, upload_id: str) -> None:
        away = while_away(ObjectStoreUnavailable, StateError, OSError, most_seconds=60)
        try:
            await away(self._verify_once, upload_id)
        except (CatalogUploadNotFound, StateConflict) as exc:
            log.info("an upload ended while it was verified: %s", exc, extra={"upload": upload_id})
        except Exception:
            # It stays `verifying`; the sweeper has it tried again.
            log.exception("an upload could not be verified", extra={"upload": upload_id})

    async def _verify_once(self, upload_id: str) -> None:
        """Join the parts; the store refuses bytes that are not the declared ones. Then the parts go."""
        upload = await self._records.get(upload_id)  # an earlier try may have come to its end
        if upload.status == "uploading":
            return
        if upload.status == "verifying":
            try:
                info = {"content_type": upload.content_type, "metadata": {}}
                expected = Expected(upload.size, upload.sha256)
                await self._objects.put(NAMESPACE, upload.file_name, self._joined(upload), expected, info)
                await self._records.move(upload, "claimed")
            except ChecksumMismatch:
                await self._records.move(upload, "quarantined", "the bytes do not have the declared SHA-256")
            except (ObjectNotFound, ObjectReplaced):
                await self._records.move(upload, "aborted", _PART_GONE)
        for number in range(1, upload.part_count + 1):
            await self._objects.delete(NAMESPACE, upload.part_name(number))

    async def _joined(self, upload: Upload) -> AsyncIterator[bytes]:
        for number in range(1, upload.part_count + 1):
            async for chunk in self._objects.read(NAMESPACE, upload.part_name(number)):
                yield chunk

    async def _drop(self, upload_id: str) -> None:
        """Remove the stored bytes of an upload that ends here."""
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
