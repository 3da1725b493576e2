"""What is left of uploads that nobody will use: those never completed, those claimed long ago, bytes without a row."""

from __future__ import annotations

import asyncio
import logging

import psycopg2

from devkit_api.catalogs.control.upload_records import UploadRecords
from devkit_api.errors import DevkitError
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.protocol import ObjectStore
from devkit_api.state.store import StateError

log = logging.getLogger(__name__)

_EVERY_SECONDS = 3600.0


class UploadSweeper:
    """Looks at the start and every hour; a store or database that does not answer then is asked the next time."""

    def __init__(self, records: UploadRecords, objects: ObjectStore) -> None:
        self._records, self._objects = records, objects
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin. The start does not wait for it."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is not removed yet is removed by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def sweep(self) -> None:
        """Expire what is too old, and remove the bytes of every upload that has ended."""
        await self._records.expire()
        after: str | None = ""
        while after is not None:
            found, after = await self._objects.list(CATALOG_IMPORTS, after=after, limit=1000)
            # After the listing: the row of an upload is there before its bytes are.
            used = await self._records.in_use()
            left = [info for info in found if info.name.partition("/")[0] not in used]
            for info in await self._objects.own(CATALOG_IMPORTS, left):
                await self._objects.delete(CATALOG_IMPORTS, info.name)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except (DevkitError, StateError, psycopg2.Error) as exc:
                log.warning("old uploads could not be removed now", exc_info=exc)
            # Age is what makes an upload old, and nothing announces it.
            await asyncio.sleep(_EVERY_SECONDS)
