"""From a listing to everything known of the files, for stores whose listings tell less."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from devkit_api.objects.protocol import Listed, ObjectInfo, ObjectStore

_AT_ONCE = 16


async def describe(store: ObjectStore, namespace: str, listed: Sequence[Listed]) -> list[ObjectInfo]:
    """What is known of the listed files, in their order; those deleted meanwhile are left out."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Listed) -> ObjectInfo | None:
        if isinstance(item, ObjectInfo):
            return item
        async with limit:
            return await store.stat(namespace, item.name)

    found = await asyncio.gather(*(one(item) for item in listed))
    return [info for info in found if info is not None]
