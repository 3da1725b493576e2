"""Removing from a bucket: whole objects, with every version where the bucket keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import attrs
from botocore.exceptions import ClientError

from devkit_api.errors import ObjectStoreUnavailable
from devkit_api.objects.s3_bucket import Bucket
from devkit_api.objects.s3_calls import contradicted

# The most S3 takes in one call.
PAGE = 1000


@attrs.frozen
class S3Removal:
    """Deletions of one bucket, and the versions they are about."""

    bucket: Bucket

    async def one(self, key: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        await self.bucket.find()
        if self.bucket.versioned:
            await self.versions(key, exact=True)
            return
        with suppress(ClientError):
            await self.bucket.call("delete_object", Key=key)

    async def versions(self, prefix: str, *, exact: bool) -> None:
        """Delete every version of one key, or of all that begin with `prefix`."""
        keys = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            async for item in self.every_version(prefix, exact=exact)
        ]
        for start in range(0, len(keys), PAGE):
            await self.all(keys[start : start + PAGE])

    async def all(self, keys: Sequence[dict[str, str]]) -> None:
        """Delete at most a page of objects in one call."""
        if keys:
            answer = await self.bucket.call("delete_objects", Delete={"Objects": list(keys), "Quiet": True})
            if answer.get("Errors"):  # a lock on them, or a policy
                raise ObjectStoreUnavailable(reason="it did not delete some files")

    async def every_version(self, prefix: str, *, exact: bool) -> AsyncIterator[dict[str, Any]]:
        """Versions and, without a size, the marks of deletions: of one key, or of all that begin with `prefix`."""
        after: dict[str, str] = {}
        seen: set[tuple[str, ...]] = set()
        while True:
            page = await self.bucket.call("list_object_versions", Prefix=prefix, **after)
            for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                if not exact or item["Key"] == prefix:
                    yield item
            if not page.get("IsTruncated"):
                return
            after = {"KeyMarker": page.get("NextKeyMarker", ""), "VersionIdMarker": page.get("NextVersionIdMarker", "")}
            if not after["KeyMarker"] or tuple(after.values()) in seen:
                raise contradicted()
            seen.add(tuple(after.values()))
