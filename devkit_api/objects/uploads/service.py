"""Uploads in parts: planned, sent part by part to signed addresses, completed once or given up.

What was sent survives a restart; the same request with the same key finds its upload again. The state is written
before anything is done on the strength of it, so that what is interrupted is done again and not half.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from devkit_api.errors import (
    DevkitError,
    IdempotencyKeyReused,
    ObjectNotFound,
    UploadInvalid,
    UploadNotFound,
)
from devkit_api.ids import utc_now
from devkit_api.locks import Gate, KeyedLocks
from devkit_api.objects.addresses import GET_SECONDS, Addresses
from devkit_api.objects.namespaces import UPLOADS
from devkit_api.objects.protocol import Expected, ObjectStore, Part, check_name
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.objects.uploads.completion import Completions
from devkit_api.objects.uploads.models import (
    CANCELLED,
    COLLECTION,
    COMPLETE,
    COMPLETING,
    EXPIRED,
    UPLOADING,
    Upload,
    base64_of,
    stored,
)
from devkit_api.objects.uploads.rules import check_parts, in_state, is_file_of
from devkit_api.public_address import PublicAddress
from devkit_api.security.principals import Principal
from devkit_api.state import DocumentStore
from devkit_api.state.store import StateError

log = logging.getLogger(__name__)
PARTS = "~upload-parts"
PART_BYTES = 8 * 1024**2
# As on the platform.
MOST_BYTES = 5 * 1024**3
LIFETIME = timedelta(hours=24)
_SIGNED_SECONDS = 900
# How long the receipt of what was given up is remembered.
_MEMORY = timedelta(days=7)
# For each user.
_MOST_OPEN = 100
_SWEEP_SECONDS = 3600.0
Document = dict[str, Any]


class PartUploads:
    """Every upload in parts."""

    def __init__(
        self, store: DocumentStore, objects: ObjectStore, signer: UrlSigner, addresses: Addresses, *,
        address: PublicAddress, bucket: str, max_bytes: int,
    ) -> None:  # fmt: skip
        self._store, self._objects, self._signer, self._addresses = store, objects, signer, addresses
        self._address, self._bucket = address, bucket
        self._max_bytes = min(max_bytes, MOST_BYTES)
        self._uploads: dict[str, Upload] = {}
        self._locks, self._owners = KeyedLocks(), KeyedLocks()
        self.gate = Gate()
        self._completions = Completions(objects, self._locks, save=self._save, end=self._end)
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read what there is, and begin to sweep: at once and every hour. The start does not wait for it."""
        self._uploads.clear()
        async for key, document in self._store.scan(COLLECTION):
            with suppress(KeyError, TypeError, ValueError):
                self._uploads[key] = stored(document)
        self._sweeping = asyncio.create_task(self._keep_sweeping())

    async def close(self) -> None:
        """Stop sweeping, and wait a while for what is being completed; the rest stays `completing`."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self._completions.stop()

    async def sweep(self) -> None:
        """Expire what waited too long, and forget what was given up long ago or whose file was removed."""
        for upload_id in list(self._uploads):
            async with self._locks.of(upload_id):
                upload = self._uploads.get(upload_id)
                if upload is None:
                    continue
                upload = await self._current(upload)
                if (upload.status in {CANCELLED, EXPIRED} and upload.is_old(_MEMORY)) or await self._is_deleted(upload):
                    await self._store.delete(COLLECTION, upload_id)
                    del self._uploads[upload_id]

    async def begin(self, source_id: str, body: Document, principal: Principal) -> Document:
        """Plan an upload, or find the one this key planned. Raises `IdempotencyKeyReused`, `UploadInvalid`."""
        if body["declaredSizeBytes"] > self._max_bytes:
            raise UploadInvalid(reason=f"a file has at most {self._max_bytes} bytes")
        owner = f"{principal.organization_id}/{principal.user_id}"
        upload_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"upload/{owner}/{source_id}/{body['idempotencyKey']}"))
        check_name(f"{upload_id}/{body['prefix']}{body['filename']}")
        async with self._alone_with(upload_id):
            known = self._uploads.get(upload_id)
            if known is not None and not await self._is_deleted(known):
                asked = (body["filename"], body["prefix"], body["contentType"], body["declaredSizeBytes"])
                if asked != (known.filename, known.prefix, known.content_type, known.size):
                    raise IdempotencyKeyReused
                return (await self._current(known)).view(self._bucket)
            async with self._owners.of(owner):  # what is open is counted, and one more begun, by one at a time
                upload = await self._begin(upload_id, source_id, body, principal)
        return upload.view(self._bucket)

    async def get(self, source_id: str, upload_id: str, principal: Principal) -> Document:
        """The receipt. Raises `UploadNotFound`."""
        async with self._alone_with(upload_id):
            return (await self._find(source_id, upload_id, principal)).view(self._bucket)

    async def sign(self, source_id: str, upload_id: str, body: Document, principal: Principal) -> Document:
        """Addresses to put parts to, each for exactly the announced bytes."""
        async with self._alone_with(upload_id):
            upload = await self._find(source_id, upload_id, principal)
        in_state(upload, body["revision"], UPLOADING)
        signed = []
        for part in body["parts"]:
            number = part["partNumber"]
            if number > upload.part_count:
                raise UploadInvalid(reason=f"there is no part {number}, the file has {upload.part_count}")
            expected = Expected(upload.part_size(number), part["checksumSHA256"])
            url = self._signer.put_url(
                self._address.base_url, PARTS, f"{upload_id}/{number}", seconds=_SIGNED_SECONDS, expected=expected,
                info={},
            )  # fmt: skip
            checksum = base64_of(expected.sha256)
            signed.append(
                {
                    "partNumber": number,
                    "sizeBytes": expected.size,
                    "checksumSHA256": checksum,
                    "url": url,
                    "requiredHeaders": {"x-amz-checksum-sha256": checksum},
                }
            )
        return {**upload.view(self._bucket), "parts": signed, "expiresIn": _SIGNED_SECONDS}

    async def put_part(self, name: str, chunks: AsyncIterator[bytes], expected: Expected) -> Part:
        """Store a part that comes to a signed address."""
        upload_id, _, number = name.partition("/")
        begun = self._uploading(upload_id).begun
        async with AsyncExitStack() as until_stored:

            async def then_alone() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                # A sender may take long, and holds up nobody. From its last byte on the upload stays as it is found
                # here: a part put in place while a file is made of the parts would spoil it.
                await until_stored.enter_async_context(self._alone_with(upload_id))
                self._uploading(upload_id)

            part = await self._objects.put_part(begun, int(number), then_alone(), expected)
            await self._save(self._uploading(upload_id).with_part(part))
        return part

    async def complete(self, source_id: str, upload_id: str, body: Document, principal: Principal) -> Document:
        """Make the file of its parts; the same request again finds it made."""
        async with self._alone_with(upload_id):
            upload = await self._find(source_id, upload_id, principal)
            if upload.status == COMPLETE:
                check_parts(upload, body["parts"])
                return upload.view(self._bucket)
            in_state(upload, body["revision"], UPLOADING, COMPLETING)
            check_parts(upload, body["parts"])
            if upload.status == UPLOADING:
                upload = await self._save(upload.moved(COMPLETING))
            task = self._completions.task(upload)
        # Who asked may go away; the file is made all the same.
        return (await asyncio.shield(task)).view(self._bucket)

    async def cancel(self, source_id: str, upload_id: str, revision: int, principal: Principal) -> Document:
        """Give an upload up and free its parts. What is complete stays."""
        async with self._alone_with(upload_id):
            upload = await self._find(source_id, upload_id, principal)
            if upload.status in {COMPLETE, CANCELLED, EXPIRED}:
                return upload.view(self._bucket)
            # What broke off while the file was made can be given up as well.
            in_state(upload, revision, UPLOADING, *(() if self._completions.has(upload_id) else (COMPLETING,)))
            return (await self._end(upload, CANCELLED)).view(self._bucket)

    async def download(self, source_id: str, upload_id: str, principal: Principal) -> Document:
        """Where to read the file, in the version that was accepted. Raises `UploadNotFound`, `UploadConflict`."""
        async with self._alone_with(upload_id):
            upload = await self._find(source_id, upload_id, principal)
            in_state(upload, upload.revision, COMPLETE)
            info = await self._objects.stat(UPLOADS, upload.name, upload.version)
            if info is None:
                # Versions are the store's own: after an import into another one the file has a new one.
                info = await self._objects.stat(UPLOADS, upload.name)
                if info is None or not is_file_of(upload, info):
                    raise ObjectNotFound(key=upload.filename)
                upload = await self._save(attrs.evolve(upload, version=info.version))
        url = await self._addresses.get(UPLOADS, info, GET_SECONDS)
        return {**upload.view(self._bucket), "url": url, "expiresIn": GET_SECONDS, "sizeBytes": info.size}

    async def clear(self) -> None:
        """Forget every upload; the files are cleared with all others. Belongs inside `gate.closed()`."""
        await self.close()
        try:
            for upload in list(self._uploads.values()):
                if upload.status != COMPLETE:
                    await self._objects.abort_parts(upload.begun)
            await self._store.clear(COLLECTION)
        finally:
            await self.open()  # also when it did not get through: what is left is read, and swept as before

    @asynccontextmanager
    async def _alone_with(self, upload_id: str) -> AsyncIterator[None]:
        with self.gate.entered():
            async with self._locks.of(upload_id):
                yield

    async def _begin(self, upload_id: str, source_id: str, body: Document, principal: Principal) -> Upload:
        owner = (principal.user_id, principal.organization_id)
        if sum(known.is_open and known.owner == owner for known in self._uploads.values()) >= _MOST_OPEN:
            raise UploadInvalid(reason=f"{_MOST_OPEN} of your uploads are open; complete or cancel some")
        expires = (datetime.now(UTC) + LIFETIME).isoformat(timespec="seconds").replace("+00:00", "Z")
        upload = Upload(
            upload_id=upload_id, source_id=source_id, user_id=principal.user_id,
            organization_id=principal.organization_id, filename=body["filename"], prefix=body["prefix"],
            content_type=body["contentType"], size=body["declaredSizeBytes"],
            part_bytes=PART_BYTES, store_id="", created_at=utc_now(), expires_at=expires,
        )  # fmt: skip
        metadata = {"user-id": principal.user_id, "organization-id": principal.organization_id}
        info = {"content_type": upload.content_type, "metadata": metadata}
        begun = await self._objects.begin_parts(UPLOADS, upload.name, info)
        try:
            return await self._save(attrs.evolve(upload, store_id=begun.upload))
        except BaseException:
            with suppress(DevkitError):  # nobody else will ever know of it
                await self._objects.abort_parts(begun)
            raise

    async def _find(self, source_id: str, upload_id: str, principal: Principal) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.source_id != source_id:
            raise UploadNotFound(upload_id=upload_id[:64])
        if not principal.may_see(upload.user_id, upload.organization_id) or await self._is_deleted(upload):
            raise UploadNotFound(upload_id=upload_id[:64])
        return await self._current(upload)

    def _known(self, upload_id: str) -> Upload:
        if upload_id not in self._uploads:
            raise UploadNotFound(upload_id=upload_id[:64])
        return self._uploads[upload_id]

    def _uploading(self, upload_id: str) -> Upload:
        upload = self._known(upload_id)
        in_state(upload, upload.revision, UPLOADING)
        return upload

    async def _current(self, upload: Upload) -> Upload:
        if not upload.is_over or self._completions.has(upload.upload_id):
            return upload
        made = await self._completions.made(upload) if upload.status == COMPLETING else None
        if made is not None:
            return await self._save(upload.moved(COMPLETE, version=made.version))
        return await self._end(upload, EXPIRED)

    async def _end(self, upload: Upload, status: str) -> Upload:
        # First the parts: nobody asks for those of an upload that has ended.
        await self._objects.abort_parts(upload.begun)
        if upload.status == COMPLETING:
            await self._objects.delete(UPLOADS, upload.name)  # the file may be there, and only the word of it missing
        return await self._save(upload.moved(status, parts=()))

    async def _keep_sweeping(self) -> None:
        while True:
            try:
                await self.sweep()
            except (DevkitError, StateError) as exc:
                log.warning("old uploads could not be removed now", exc_info=exc)
            # Age is what makes an upload old, and nothing announces it.
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _is_deleted(self, upload: Upload) -> bool:
        """Whether the complete file was deleted since, by `inputs remove`."""
        return upload.status == COMPLETE and await self._objects.stat(UPLOADS, upload.name) is None

    async def _save(self, upload: Upload) -> Upload:
        await self._store.put(COLLECTION, upload.upload_id, attrs.asdict(upload))
        self._uploads[upload.upload_id] = upload
        return upload
