"""The rules of publishing. A publication is a document: what was acknowledged is finished after any stop, or failed
with the true reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.errors import (
    DevkitError,
    Forbidden,
    InternalError,
    PublicationConflict,
    PublicationNotFound,
    PublicationsOpen,
    SignatureInvalid,
    SourceNotUploaded,
    SourceTooLarge,
    StateWriteFailed,
)
from devkit_api.ids import utc_now
from devkit_api.locks import KeyedLocks
from devkit_api.modules.publish import signature
from devkit_api.modules.publish.intake import Intake
from devkit_api.modules.publish.models import Failure, Phase, Publication, Status, publish_id_of
from devkit_api.modules.publish.uploads import GRANT_SECONDS, Uploads, decoded
from devkit_api.modules.schemas import check_manifest
from devkit_api.modules.service import ModuleRegistry
from devkit_api.security.principals import Principal
from devkit_api.state import DocumentStore, StateError

log = logging.getLogger(__name__)

COLLECTION = "publications"
MOST_OPEN = 20
MOST_KEPT = 500


class PublishService:
    """Publications by id, and the one worker that examines them."""

    def __init__(
        self, store: DocumentStore, registry: ModuleRegistry, uploads: Uploads, organization_id: str, max_bytes: int
    ) -> None:
        self._store = store
        self._registry = registry
        self._uploads = uploads
        self._organization_id = organization_id
        self._max_bytes = max_bytes
        self._known: dict[str, Publication] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._locks = KeyedLocks()
        self._worker: asyncio.Task[None] | None = None
        self._examining = asyncio.Lock()

    async def open(self) -> None:
        """Read what is stored, forget grants nobody used, go on with what was being examined."""
        async for key, document in self._store.scan(COLLECTION):
            try:
                publication = Publication.from_document(document)
            except (KeyError, TypeError, ValueError):
                log.error("a stored publication cannot be read and is left out", extra={"document": key})
                continue
            self._known[publication.publish_id] = publication
        self._known = dict(sorted(self._known.items(), key=lambda item: item[1].created_at))
        await self._forget_old()
        waiting = [publication for publication in self._known.values() if not publication.is_terminal]
        await self._uploads.sweep({publication.publish_id for publication in waiting})
        for publication in waiting:
            if publication.status is Status.IN_PROGRESS:
                self._queue.put_nowait(publication.publish_id)
        self._worker = asyncio.create_task(self._work(), name="publish-intake")

    async def close(self) -> None:
        """Stop examining; what is not finished goes on after the next start."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker

    async def grant(self, request: dict[str, Any], principal: Principal, base_url: str) -> dict[str, Any]:
        """An address to upload the source to (wire-contract B.4). What can be refused early is."""
        size, digest = request["sizeBytes"], request["sha256"]
        if size > self._max_bytes:
            raise SourceTooLarge(size=size, limit=self._max_bytes)
        fresh = self._make(request, principal, sha256=digest, size_bytes=size)
        async with self._locks.of(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                # The SDK asks for the grant again when it repeats a publication; its upload changes nothing then.
                return self._granted(attrs.evolve(known, expires=fresh.expires), base_url)
            if known is None:
                await self._admit(principal)
            await self._save(fresh)
        return self._granted(fresh, base_url)

    async def upload(self, publish_id: str, query: Mapping[str, str], chunks: AsyncIterator[bytes]) -> None:
        """Store the archive of a grant."""
        digest, size = self._uploads.check(publish_id, query)
        publication = self._known.get(publish_id)
        if publication is None or (publication.sha256, publication.size_bytes) != (digest, size):
            raise SignatureInvalid(reason="its publication is no longer there")
        if publication.status is not Status.AWAITING_UPLOAD:
            # A repeated publication: the archive was taken before. The body is still read, so that the client is heard.
            async for _ in chunks:
                pass
            return
        await self._uploads.receive(publish_id, chunks, digest, size)
        current = self._known.get(publish_id)
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
        async with self._locks.of(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                return known
            if fresh.image_ref is None:
                self._check_uploaded(known)
            else:
                await self._admit(principal)
            return await self._enqueue(known or fresh)

    def check_image(self, request: dict[str, Any], principal: Principal) -> None:
        """What a dry run of an image can find out. Raises a catalogue error."""
        request.setdefault("idempotencyKey", "dry-run")
        self._make(request, principal, image_ref=request["imageRef"])

    def get(self, publish_id: str, viewer: Principal) -> Publication:
        """A publication. Raises `PublicationNotFound`, also when it is somebody else's."""
        found = self._known.get(publish_id)
        if found is None or not viewer.may_see(found.user_id, found.organization_id):
            raise PublicationNotFound(publish_id=publish_id[:100])
        return found

    async def clear(self) -> None:
        """Forget every publication, after the one being examined."""
        async with self._examining:
            self._known.clear()
            await self._store.clear(COLLECTION)
            await self._uploads.sweep(set())

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
        known = self._known.get(fresh.publish_id)
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
        async with self._locks.of(fresh.publish_id):
            known = self._same(fresh)
            if known is not None and known.status is not Status.AWAITING_UPLOAD:
                return known
            if known is None:
                await self._admit(principal)
            await self._uploads.receive(fresh.publish_id, _once(data), digest, len(data))
            return await self._enqueue(fresh)

    async def _admit(self, principal: Principal) -> None:
        """Bound what one user may have under way, after forgetting what has expired."""
        await self._forget_old()
        count = sum(1 for p in self._known.values() if p.user_id == principal.user_id and not p.is_terminal)
        if count >= MOST_OPEN:
            raise PublicationsOpen(count=count, minutes=GRANT_SECONDS // 60, headers={"Retry-After": "60"})

    async def _forget_old(self) -> None:
        now = time.time()
        expired = [p for p in self._known.values() if p.status is Status.AWAITING_UPLOAD and p.expires < now]
        ended = [p for p in self._known.values() if p.is_terminal]
        for publication in [*expired, *ended[: max(0, len(ended) - MOST_KEPT)]]:
            await self._store.delete(COLLECTION, publication.publish_id)
            self._known.pop(publication.publish_id, None)
            await self._uploads.discard(publication.publish_id)

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

    async def _enqueue(self, publication: Publication) -> Publication:
        queued = attrs.evolve(
            publication, status=Status.IN_PROGRESS, phase=Phase.QUEUED, started_at=utc_now(), failure=None
        )
        await self._save(queued)
        self._queue.put_nowait(queued.publish_id)
        log.info("publication accepted", extra={"publication": queued.publish_id, "module_id": queued.manifest["name"]})
        return queued

    async def _work(self) -> None:
        while True:
            publish_id = await self._queue.get()
            try:
                async with self._examining:
                    await self._examine(publish_id)
            except StateError:
                # Not even the failure could be stored: the document says in progress, and the next start goes on.
                log.error("a publication waits for the next start", extra={"publication": publish_id})
            except Exception:
                log.exception("a publication could not be examined", extra={"publication": publish_id})

    async def _examine(self, publish_id: str) -> None:
        publication = self._known.get(publish_id)
        if publication is None:  # a reset came first
            return
        intake = Intake(self._registry, self._uploads)
        try:
            async for phase in intake.phases(publication):
                publication = await self._save(attrs.evolve(publication, phase=phase))
        except DevkitError as exc:
            await self._fail(publication, exc)
        except (StateError, OSError):
            await self._fail(publication, StateWriteFailed())
        except Exception:
            log.exception("the examination of a publication broke", extra={"publication": publish_id})
            await self._fail(publication, InternalError())
        else:
            await self._end(
                attrs.evolve(
                    publication,
                    status=Status.COMPLETED,
                    ended_at=utc_now(),
                    module_id=intake.module_id,
                    warnings=intake.warnings,
                )
            )
            log.info("published", extra={"publication": publish_id, "module_id": intake.module_id})

    async def _fail(self, publication: Publication, error: DevkitError) -> None:
        log.warning("publication failed: %s", error.message, extra={"publication": publication.publish_id})
        failure = Failure(error.code, error.message, publication.phase.value)
        await self._end(attrs.evolve(publication, status=Status.FAILED, ended_at=utc_now(), failure=failure))

    async def _end(self, publication: Publication) -> None:
        """Store the outcome, remove the archive, announce: whoever reads the outcome finds nothing left over."""
        await self._store.put(COLLECTION, publication.publish_id, publication.to_document())
        await self._uploads.discard(publication.publish_id)
        self._known[publication.publish_id] = publication

    async def _save(self, publication: Publication) -> Publication:
        await self._store.put(COLLECTION, publication.publish_id, publication.to_document())
        self._known[publication.publish_id] = publication
        return publication


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
