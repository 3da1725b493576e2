"""The rules of publishing: what is granted, taken and queued. What becomes of it is in `examiner.py`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.errors import (
    Forbidden,
    PublicationConflict,
    PublicationNotFound,
    PublicationsOpen,
    SignatureInvalid,
    SourceNotUploaded,
    SourceTooLarge,
)
from devkit_api.ids import utc_now
from devkit_api.modules.publish import signature
from devkit_api.modules.publish.book import PublicationBook
from devkit_api.modules.publish.examiner import Examiner
from devkit_api.modules.publish.models import Phase, Publication, Status, publish_id_of
from devkit_api.modules.publish.uploads import GRANT_SECONDS, Uploads, decoded
from devkit_api.modules.schemas import check_manifest
from devkit_api.modules.service import ModuleRegistry
from devkit_api.security.principals import Principal
from devkit_api.state import DocumentStore

MOST_OPEN = 20


class PublishService:
    """Publications from the grant to the queue."""

    def __init__(
        self, store: DocumentStore, registry: ModuleRegistry, uploads: Uploads, organization_id: str, max_bytes: int
    ) -> None:
        self._uploads = uploads
        self._organization_id = organization_id
        self._max_bytes = max_bytes
        self._book = PublicationBook(store, uploads)
        self._examiner = Examiner(self._book, registry, uploads)

    async def open(self) -> None:
        """Read what is stored, and go on with what was being examined."""
        await self._book.load()
        self._examiner.open()

    async def close(self) -> None:
        """Stop examining; what is not finished goes on after the next start."""
        await self._examiner.close()

    async def grant(self, request: dict[str, Any], principal: Principal, base_url: str) -> dict[str, Any]:
        """An address to upload the source to (wire-contract B.4). What can be refused early is."""
        size, digest = request["sizeBytes"], request["sha256"]
        if size > self._max_bytes:
            raise SourceTooLarge(size=size, limit=self._max_bytes)
        fresh = self._make(request, principal, sha256=digest, size_bytes=size)
        async with self._book.lock(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                # The SDK asks for the grant again when it repeats a publication; its upload changes nothing then.
                return self._granted(attrs.evolve(known, expires=fresh.expires), base_url)
            if known is None:
                await self._admit(principal)
            await self._book.save(fresh)
        return self._granted(fresh, base_url)

    async def upload(self, publish_id: str, query: Mapping[str, str], chunks: AsyncIterator[bytes]) -> None:
        """Store the archive of a grant."""
        digest, size = self._uploads.check(publish_id, query)
        publication = self._book.get(publish_id)
        if publication is None or (publication.sha256, publication.size_bytes) != (digest, size):
            raise SignatureInvalid(reason="its publication is no longer there")
        if publication.status is not Status.AWAITING_UPLOAD:
            # A repeated publication: the archive was taken before. The body is still read, so that the client is heard.
            async for _ in chunks:
                pass
            return
        await self._uploads.receive(publish_id, chunks, digest, size)
        current = self._book.get(publish_id)
        if current is None or current.status is not Status.AWAITING_UPLOAD:
            if current is None or current.is_terminal:
                await self._uploads.discard(publish_id)
            raise SignatureInvalid(reason="its publication has been submitted meanwhile")

    async def submit(self, request: dict[str, Any], principal: Principal, header_key: str | None) -> Publication:
        """Queue a publication for examination. The same submission again is answered with what it has become."""
        key = request.setdefault("idempotencyKey", header_key)
        if not key or (header_key is not None and header_key != key):
            raise PublicationConflict(reason="the header Idempotency-Key and the body must name the same one")
        if "sourceZipBase64" in request:
            return await self._submit_embedded(request, principal)
        uploaded = request.get("sourceUpload") or {}
        fresh = self._make(
            request,
            principal,
            sha256=uploaded.get("sha256"),
            size_bytes=uploaded.get("sizeBytes"),
            image_ref=request.get("imageRef"),
        )
        async with self._book.lock(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                return known
            if fresh.image_ref is None:
                self._check_uploaded(known)
            else:
                await self._admit(principal)
            return await self._examiner.submit(known or fresh)

    def check_image(self, request: dict[str, Any], principal: Principal) -> None:
        """What a dry run of an image can find out. Raises a catalogue error."""
        request.setdefault("idempotencyKey", "dry-run")
        self._make(request, principal, image_ref=request["imageRef"])

    def get(self, publish_id: str, viewer: Principal) -> Publication:
        """A publication. Raises `PublicationNotFound`, also when it is somebody else's."""
        found = self._book.get(publish_id)
        if found is None or not viewer.may_see(found.user_id, found.organization_id):
            raise PublicationNotFound(publish_id=publish_id[:100])
        return found

    async def clear(self) -> None:
        """Forget every publication, after the one being examined."""
        async with self._examiner.between:
            await self._book.clear()

    def _make(self, request: dict[str, Any], principal: Principal, **code: Any) -> Publication:
        """The publication a request asks for, checked as far as it can be without the source."""
        asked = request.get("orgId")
        if asked and asked not in {self._organization_id, principal.organization_id}:
            raise Forbidden(
                reason="the organisation is not yours here",
                hint=f"Publish with --org-id {self._organization_id}, or with another HLA_COMPASS_CONFIG_DIR.",
            )
        manifest = check_manifest(request["manifest"])
        signature.verify(manifest)
        code = {name: value for name, value in code.items() if value is not None}
        # Without the signature, which differs each time the same manifest is signed.
        evidence = {"manifest": signature.unsigned(manifest), "scope": request["scope"], **code}
        return Publication(
            publish_id=publish_id_of(principal.user_id, request["idempotencyKey"]),
            user_id=principal.user_id,
            organization_id=principal.organization_id,
            evidence=hashlib.sha256(jsonio.canonical(evidence)).hexdigest(),
            manifest=manifest,
            scope=request["scope"],
            status=Status.AWAITING_UPLOAD,
            phase=Phase.UPLOAD,
            created_at=utc_now(),
            expires=int(time.time()) + GRANT_SECONDS,
            **code,
        )

    def _same(self, fresh: Publication) -> Publication | None:
        known = self._book.get(fresh.publish_id)
        if known is not None and known.evidence != fresh.evidence:
            raise PublicationConflict(reason="it was used for another source, manifest or scope")
        return known

    def _check_uploaded(self, known: Publication | None) -> None:
        if known is None:
            raise SourceNotUploaded(reason="no address to upload it to was asked for with this idempotency key")
        if not self._uploads.has(known.publish_id):
            late = " and the address for it has expired" if known.expires < time.time() else ""
            raise SourceNotUploaded(reason=f"nothing has arrived{late}")

    async def _submit_embedded(self, request: dict[str, Any], principal: Principal) -> Publication:
        """The archive came inside the body: as a grant, an upload and a submission."""
        data = decoded(request["sourceZipBase64"])
        if len(data) > self._max_bytes:
            raise SourceTooLarge(size=len(data), limit=self._max_bytes)
        digest = hashlib.sha256(data).hexdigest()
        fresh = self._make(request, principal, sha256=digest, size_bytes=len(data))
        async with self._book.lock(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                return known
            if known is None:
                await self._admit(principal)
            await self._uploads.receive(fresh.publish_id, _once(data), digest, len(data))
            return await self._examiner.submit(fresh)

    async def _admit(self, principal: Principal) -> None:
        """Bound what one user may have under way, after forgetting what has expired."""
        await self._book.forget_old()
        count = sum(1 for publication in self._book.unfinished() if publication.user_id == principal.user_id)
        if count >= MOST_OPEN:
            raise PublicationsOpen(count=count, minutes=GRANT_SECONDS // 60, headers={"Retry-After": "60"})

    def _granted(self, publication: Publication, base_url: str) -> dict[str, Any]:
        assert publication.sha256 is not None and publication.size_bytes is not None  # noqa: S101  a source
        url = self._uploads.url(
            base_url, publication.publish_id, publication.expires, publication.sha256, publication.size_bytes
        )
        return {
            "publishId": publication.publish_id,
            "uploadUrl": url,
            "headers": {"Content-Type": "application/zip"},
            "expiresIn": GRANT_SECONDS,
        }


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
