"""Objects in a bucket of S3 or MinIO.

Files of a run lie under `runs/<run id>/files/`, as their `s3://` names say, so that other tools find them. Clients
read and write through presigned addresses of the bucket itself: their bytes never pass through the devkit. A presigned
put is signed for one length and one SHA-256, which S3 verifies before the object becomes visible.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from devkit_api.errors import ObjectNotFound, ObjectReplaced, ObjectStoreUnavailable
from devkit_api.httpio import attachment
from devkit_api.objects.file_receive import drop_parts, part_file, receive
from devkit_api.objects.namespaces import prefix_of, run_of
from devkit_api.objects.protocol import CHUNK, Begun, DirectPut, Expected, Listed, ObjectInfo, Part, Version, check_part
from devkit_api.objects.s3_bucket import Bucket, base64_of, info_of, pinned, time_of, version_of
from devkit_api.objects.s3_calls import ATTEMPTS, contradicted, retried, unavailable
from devkit_api.objects.s3_owner import read_owners
from devkit_api.objects.s3_parts import COPY_BYTES, PART_BYTES, S3Parts, Upload
from devkit_api.objects.s3_removal import PAGE, S3Removal
from devkit_api.settings import Settings

_AT_ONCE = 16
# The most S3 takes in one put.
_SINGLE_BYTES = 5 * 1024**3


class S3ObjectStore:
    """`ObjectStore` on a bucket. In `state` it keeps its id, and uploads until their checksum is known."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._state, self._spool = state, state / "spool"
        self._bucket = Bucket(settings)
        self._parts = S3Parts(self._bucket)
        self._removal = S3Removal(self._bucket)

    async def open(self) -> None:
        """Open the pool. The bucket is looked for, and made, with the first call that needs it."""
        await asyncio.to_thread(_prepare_spool, self._spool)
        self._bucket.owners = await asyncio.to_thread(read_owners, self._state)
        await self._bucket.open()

    async def close(self) -> None:
        """Close the pool."""
        await self._bucket.close()

    async def check(self) -> None:
        """See `ObjectStore.check`."""
        await self._bucket.check()

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected | None, info: dict[str, Any]
    ) -> ObjectInfo:
        """See `ObjectStore.put`. The bytes wait in a local file: only what is whole and right is sent."""
        async with part_file(self._spool, "the file could not be stored") as temporary:
            found = await receive(temporary, chunks, expected)
            if found.size > PART_BYTES:
                await self._parts.put_file(_key(namespace, name), temporary, found, info)
            else:
                direct = await self._direct_put(namespace, name, found, info, seconds=300)
                await retried(lambda: self._bucket.send(direct.url, direct.headers, temporary, 0, found.size))
        return await self._stored(namespace, name)

    async def stat(self, namespace: str, name: str, version: str | None = None) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        head = await self._bucket.head(_key(namespace, name), version)
        return None if head is None else info_of(name, head)

    async def versions(self, namespace: str, info: ObjectInfo) -> list[Version]:
        """See `ObjectStore.versions`: those the bucket keeps, when versioning is on."""
        await self._bucket.find()
        if not self._bucket.versioned:
            return [Version(info.version, info.size, info.created_at)]
        found = [
            item async for item in self._removal.every_version(_key(namespace, info.name), exact=True) if "Size" in item
        ]
        return [Version(version_of(item), item["Size"], time_of(item["LastModified"])) for item in found]

    async def read(
        self, namespace: str, name: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `ObjectStore.read`. A connection that breaks is taken up where it broke, on the same version."""
        info = await self.stat(namespace, name, version)
        if info is None:
            is_there = version is not None and await self.stat(namespace, name) is not None
            raise ObjectReplaced(key=name) if is_there else ObjectNotFound(key=name)
        end = info.size if length is None else min(info.size, start + length)
        attempts = 0
        while start < end:
            if attempts == ATTEMPTS:
                raise contradicted()  # each answer was complete, and shorter than what was asked for
            attempts += 1
            try:
                part = await self._bucket.call(
                    "get_object", Key=_key(namespace, name), Range=f"bytes={start}-{end - 1}", **pinned(info.version)
                )
            except ClientError:
                raise ObjectReplaced(key=name) from None
            try:
                async with part["Body"] as body:
                    if start and not part.get("ContentRange", "").startswith(f"bytes {start}-"):
                        raise contradicted()  # other bytes than those asked for
                    while chunk := (await body.read(CHUNK))[: end - start]:
                        start += len(chunk)
                        yield chunk
            except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as exc:
                if attempts == ATTEMPTS:
                    raise unavailable(exc) from exc

    async def local_path(self, namespace: str, info: ObjectInfo) -> Path | None:
        """The bytes are elsewhere."""
        return None

    async def direct_get(self, namespace: str, info: ObjectInfo, seconds: int) -> str | None:
        """See `ObjectStore.direct_get`."""
        version = {key: value for key, value in pinned(info.version).items() if key == "VersionId"}
        return await self._bucket.address(
            "get_object", seconds, Key=_key(namespace, info.name),
            ResponseContentDisposition=attachment(info.name), **version,
        )  # fmt: skip

    async def direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut | None:
        """See `ObjectStore.direct_put`. What is too large for one put goes through the devkit, and on in parts."""
        if expected.size > _SINGLE_BYTES:
            return None
        return await self._direct_put(namespace, name, expected, info, seconds)

    async def begin_parts(self, namespace: str, name: str, info: dict[str, Any]) -> Begun:
        """See `ObjectStore.begin_parts`."""
        return Begun(namespace, name, (await self._parts.begin(_key(namespace, name), info)).id)

    async def put_part(self, begun: Begun, number: int, chunks: AsyncIterator[bytes], expected: Expected) -> Part:
        """See `ObjectStore.put_part`. As with `put`, only what is whole and right is sent."""
        check_part(number, expected.size)
        await self._parts.list(_upload(begun))
        async with part_file(self._spool, "the part could not be stored") as temporary:
            found = await receive(temporary, chunks, expected)
            return await self._parts.put(_upload(begun), number, temporary, found)

    async def parts(self, begun: Begun) -> list[Part]:
        """See `ObjectStore.parts`."""
        return await self._parts.list(_upload(begun))

    async def complete_parts(self, begun: Begun, parts: Sequence[Part]) -> ObjectInfo:
        """See `ObjectStore.complete_parts`."""
        await self._parts.complete(_upload(begun), parts)
        info = await self._stored(begun.namespace, begun.name)
        digest = hashlib.sha256()
        async for chunk in self.read(begun.namespace, begun.name, version=info.version):
            digest.update(chunk)
        await self._parts.note_sha256(_key(begun.namespace, begun.name), info, digest.hexdigest())
        return await self._stored(begun.namespace, begun.name)

    async def abort_parts(self, begun: Begun) -> None:
        """See `ObjectStore.abort_parts`."""
        await self._parts.abort(_upload(begun))

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Listed], str | None]:
        """See `ObjectStore.list`. S3 answers at most 1000 names at a time."""
        base = prefix_of(namespace)
        found: list[Listed] = []
        while True:
            start = {"StartAfter": base + after} if after else {}
            size = min(PAGE, limit - len(found))
            page = await self._bucket.call("list_objects_v2", Prefix=base + prefix, MaxKeys=size, **start)
            found += [
                Listed(name=item["Key"][len(base) :], size=item["Size"], created_at=time_of(item["LastModified"]))
                for item in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                return found, None
            last, after = after, found[-1].name if page.get("Contents") else ""
            if after <= last:
                raise contradicted()
            if len(found) >= limit:
                return found, after

    async def copy(self, namespace: str, name: str, to_namespace: str, to_name: str) -> ObjectInfo:
        """See `ObjectStore.copy`."""
        source, target = _key(namespace, name), _key(to_namespace, to_name)
        info = await self.stat(namespace, name)
        if info is None:
            raise ObjectNotFound(key=name)
        if info.size > COPY_BYTES:
            await self._parts.copy(source, target, info)
        else:
            try:
                await self._bucket.call(
                    "copy_object", Key=target, CopySource={"Bucket": self._bucket.name, "Key": source}
                )
            except ClientError:
                raise ObjectNotFound(key=name) from None
        return await self._stored(to_namespace, to_name)

    async def delete(self, namespace: str, name: str) -> None:
        """See `ObjectStore.delete`."""
        await self._removal.one(_key(namespace, name))

    async def delete_namespace(self, namespace: str) -> None:
        """See `ObjectStore.delete_namespace`."""
        await self._bucket.find()
        if run_of(namespace) is None:
            await self._delete_own(namespace)
            return
        if self._bucket.versioned:
            await self._removal.versions(prefix_of(namespace), exact=False)
            return
        after: str | None = ""
        while after is not None:
            listed, after = await self.list(namespace, after=after, limit=PAGE)
            await self._removal.all([{"Key": _key(namespace, item.name)} for item in listed])

    async def own(self, namespace: str, listed: Sequence[Listed], *, or_unmarked: bool = False) -> Sequence[Listed]:
        """See `ObjectStore.own`. A run has an id of its own; other files are marked when they are put."""
        if run_of(namespace) is not None:
            return listed
        limit = asyncio.Semaphore(_AT_ONCE)
        owners = {*self._bucket.owners, *([""] if or_unmarked else [])}

        async def is_own(item: Listed) -> bool:
            async with limit:
                return await self._bucket.owner_of(_key(namespace, item.name)) in owners

        found = await asyncio.gather(*(is_own(item) for item in listed))
        return [item for item, own in zip(listed, found, strict=True) if own]

    async def sweep(self, is_known: Callable[[str], bool]) -> int:
        """Nothing is swept: another devkit may share the bucket, and its runs are not known here."""
        return 0

    async def _delete_own(self, namespace: str) -> None:
        after: str | None = ""
        while after is not None:
            listed, after = await self.list(namespace, after=after, limit=PAGE)
            for item in await self.own(namespace, listed):
                await self.delete(namespace, item.name)

    async def _direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut:
        checksum = base64_of(expected.sha256)
        metadata = self._bucket.metadata(_key(namespace, name), info, expected.sha256)
        url = await self._bucket.address(
            "put_object", seconds, Key=_key(namespace, name), ContentType=info["content_type"],
            ContentLength=expected.size, ChecksumSHA256=checksum, Metadata=metadata,
        )  # fmt: skip
        headers = {"x-amz-checksum-sha256": checksum, "Content-Type": info["content_type"]}
        headers |= {f"x-amz-meta-{key}": value for key, value in metadata.items()}
        return DirectPut(url, headers)

    async def _stored(self, namespace: str, name: str) -> ObjectInfo:
        stored = await self.stat(namespace, name)
        if stored is None:
            raise ObjectStoreUnavailable(reason="it lost the file")
        return stored


def _key(namespace: str, name: str) -> str:
    return prefix_of(namespace) + name


def _upload(begun: Begun) -> Upload:
    return Upload(_key(begun.namespace, begun.name), begun.upload)


def _prepare_spool(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drop_parts(folder)
