"""From parts to the file: made once, whoever asks for it and however often, and taken back when it cannot be made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from devkit_api.errors import PartsInvalid, PartsNotFound
from devkit_api.locks import KeyedLocks
from devkit_api.objects.namespaces import UPLOADS
from devkit_api.objects.protocol import ObjectInfo, ObjectStore
from devkit_api.objects.uploads.models import COMPLETE, EXPIRED, UPLOADING, Upload
from devkit_api.objects.uploads.rules import is_file_of, with_checksums

# A bucket may take much longer for a large file; whoever asks again has it done.
_STOP_SECONDS = 10.0


class Completions:
    """Files that are being made. `save` keeps an upload as it is, `end` gives one up."""

    def __init__(
        self, objects: ObjectStore, locks: KeyedLocks, *,
        save: Callable[[Upload], Awaitable[Upload]], end: Callable[[Upload, str], Awaitable[Upload]],
    ) -> None:  # fmt: skip
        self._objects, self._locks, self._save, self._end = objects, locks, save, end
        self._tasks: dict[str, asyncio.Task[Upload]] = {}

    def has(self, upload_id: str) -> bool:
        """Whether the file of this upload is being made now."""
        task = self._tasks.get(upload_id)
        return task is not None and not task.done()

    def task(self, upload: Upload) -> asyncio.Task[Upload]:
        """The task that makes the file, begun if there is none."""
        upload_id = upload.upload_id
        if not self.has(upload_id):
            self._tasks[upload_id] = asyncio.create_task(self._complete(upload))
            self._tasks[upload_id].add_done_callback(lambda task: self._forget(upload_id, task))
        return self._tasks[upload_id]

    async def stop(self) -> None:
        """Wait a while for what is being made; the rest stays `completing`."""
        if not self._tasks:
            return
        _, left = await asyncio.wait(self._tasks.values(), timeout=_STOP_SECONDS)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def made(self, upload: Upload) -> ObjectInfo | None:
        """The file of an upload, when it is there."""
        made = await self._objects.stat(UPLOADS, upload.name)
        return made if made is not None and is_file_of(upload, made) else None

    async def _complete(self, upload: Upload) -> Upload:
        try:
            info = await self._objects.complete_parts(upload.begun, upload.parts)
        except (PartsInvalid, PartsNotFound):
            # An earlier try may have made the file, and been cut off before it could say so.
            made = await self.made(upload)
            if made is None:
                await self._take_back(upload)
                raise
            info = made
        async with self._locks.of(upload.upload_id):
            return await self._save(upload.moved(COMPLETE, version=info.version))

    async def _take_back(self, upload: Upload) -> None:
        """No file can be made of these parts: go on with what the store has, or end when it has nothing."""
        async with self._locks.of(upload.upload_id):
            try:
                found = await self._objects.parts(upload.begun)
            except PartsNotFound:
                await self._end(upload, EXPIRED)
                return
            await self._save(upload.moved(UPLOADING, parts=with_checksums(found, upload.parts)))

    def _forget(self, upload_id: str, task: asyncio.Task[Upload]) -> None:
        if self._tasks.get(upload_id) is task:
            del self._tasks[upload_id]
