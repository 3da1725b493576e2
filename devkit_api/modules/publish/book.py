"""Publications, in memory and in the store: each is a document, and the newest are kept."""

from __future__ import annotations

import asyncio
import logging
import time

from devkit_api.locks import KeyedLocks
from devkit_api.modules.publish.models import Publication, Status
from devkit_api.modules.publish.uploads import Uploads
from devkit_api.state import DocumentStore

log = logging.getLogger(__name__)

COLLECTION = "publications"
MOST_KEPT = 500


class PublicationBook:
    """Publications by id, oldest first, and the archives that belong to them."""

    def __init__(self, store: DocumentStore, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads
        self._known: dict[str, Publication] = {}
        self._locks = KeyedLocks()

    async def load(self) -> None:
        """Read what is stored, and forget grants nobody used."""
        async for key, document in self._store.scan(COLLECTION):
            try:
                publication = Publication.from_document(document)
            except (KeyError, TypeError, ValueError):
                log.error("a stored publication cannot be read and is left out", extra={"document": key})
                continue
            self._known[publication.publish_id] = publication
        self._known = dict(sorted(self._known.items(), key=lambda item: item[1].created_at))
        await self.forget_old()
        await self._uploads.sweep({publication.publish_id for publication in self.unfinished()})

    def lock(self, publish_id: str) -> asyncio.Lock:
        """Held by whoever changes a publication because of what it is."""
        return self._locks.of(publish_id)

    def get(self, publish_id: str) -> Publication | None:
        """The publication, or None."""
        return self._known.get(publish_id)

    def unfinished(self) -> list[Publication]:
        """Those that have not ended."""
        return [publication for publication in self._known.values() if not publication.is_terminal]

    async def save(self, publication: Publication) -> Publication:
        """Store a publication, then have it found."""
        await self._store.put(COLLECTION, publication.publish_id, publication.to_document())
        self._known[publication.publish_id] = publication
        return publication

    async def end(self, publication: Publication) -> None:
        """Store the outcome, remove the archive, announce: whoever reads the outcome finds nothing left over."""
        await self._store.put(COLLECTION, publication.publish_id, publication.to_document())
        await self._uploads.discard(publication.publish_id)
        self._known[publication.publish_id] = publication

    async def forget_old(self) -> None:
        """Let go of grants that have expired and of the oldest that have ended, with their archives."""
        now = time.time()
        expired = [p for p in self._known.values() if p.status is Status.AWAITING_UPLOAD and p.expires < now]
        ended = [p for p in self._known.values() if p.is_terminal]
        for publication in [*expired, *ended[: max(0, len(ended) - MOST_KEPT)]]:
            await self._store.delete(COLLECTION, publication.publish_id)
            self._known.pop(publication.publish_id, None)
            await self._uploads.discard(publication.publish_id)

    async def clear(self) -> None:
        """Forget every publication."""
        self._known.clear()
        await self._store.clear(COLLECTION)
        await self._uploads.sweep(set())
