"""The one worker that examines publications.

A publication is a document: what was acknowledged is finished after any stop, or failed with the true reason.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import attrs

from devkit_api.errors import DevkitError, InternalError, StateWriteFailed
from devkit_api.ids import utc_now
from devkit_api.modules.publish.book import PublicationBook
from devkit_api.modules.publish.intake import Intake
from devkit_api.modules.publish.models import Failure, Phase, Publication, Status
from devkit_api.modules.publish.uploads import Uploads
from devkit_api.modules.service import ModuleRegistry
from devkit_api.state import StateError
from devkit_api.state.retry import until_stored

log = logging.getLogger(__name__)


class Examiner:
    """Takes queued publications to their end, one at a time. `between` is free between two of them."""

    def __init__(self, book: PublicationBook, registry: ModuleRegistry, uploads: Uploads) -> None:
        self._book = book
        self._registry = registry
        self._uploads = uploads
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self.between = asyncio.Lock()

    def open(self) -> None:
        """Go on with what was being examined."""
        for publication in self._book.unfinished():
            if publication.status is Status.IN_PROGRESS:
                self._queue.put_nowait(publication.publish_id)
        self._worker = asyncio.create_task(self._work(), name="publish-intake")

    async def close(self) -> None:
        """Stop; what is not finished goes on after the next start."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker

    async def submit(self, publication: Publication) -> Publication:
        """Queue a publication, durably."""
        queued = attrs.evolve(
            publication, status=Status.IN_PROGRESS, phase=Phase.QUEUED, started_at=utc_now(), failure=None
        )
        await self._book.save(queued)
        self._queue.put_nowait(queued.publish_id)
        log.info("publication accepted", extra={"publication": queued.publish_id, "module_id": queued.manifest["name"]})
        return queued

    async def _work(self) -> None:
        while True:
            publish_id = await self._queue.get()
            try:
                # When not even the failure can be stored, all of it is done again: it may end well then.
                await until_stored()(self._in_turn, publish_id)
            except Exception:
                log.exception("a publication could not be examined", extra={"publication": publish_id})

    async def _in_turn(self, publish_id: str) -> None:
        async with self.between:
            await self._examine(publish_id)

    async def _examine(self, publish_id: str) -> None:
        publication = self._book.get(publish_id)
        if publication is None:  # a reset came first
            return
        intake = Intake(self._registry, self._uploads)
        try:
            async for phase in intake.phases(publication):
                publication = await self._book.save(attrs.evolve(publication, phase=phase))
        except DevkitError as exc:
            await self._fail(publication, exc)
        except (StateError, OSError):
            await self._fail(publication, StateWriteFailed())
        except Exception:
            log.exception("the examination of a publication broke", extra={"publication": publish_id})
            await self._fail(publication, InternalError())
        else:
            await self._book.end(
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
        await self._book.end(attrs.evolve(publication, status=Status.FAILED, ended_at=utc_now(), failure=failure))
