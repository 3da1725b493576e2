"""Files that go to a bucket in parts: those a client sends part by part, and those too large for one put or copy."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from botocore.exceptions import ClientError

from devkit_api.errors import ObjectReplaced, ObjectStoreUnavailable, PartsInvalid, PartsNotFound
from devkit_api.objects.protocol import CHUNK, Expected, ObjectInfo, Part, check_part, check_parts
from devkit_api.objects.s3_bucket import Bucket, base64_of, is_etag
from devkit_api.objects.s3_calls import contradicted, retried

# Larger files are sent in parts of this size, so that a broken connection costs one part.
PART_BYTES = 64 * 1024**2
# The most S3 copies at once; larger files are copied in parts of this size.
COPY_BYTES = 5 * 1024**3
_AT_ONCE = 4
_SECONDS = 3600


@attrs.frozen
class Upload:
    """An upload in parts as S3 knows it: the whole key of the bucket, and an id."""

    key: str
    id: str

    @property
    def params(self) -> dict[str, str]:
        """For calls."""
        return {"Key": self.key, "UploadId": self.id}


@attrs.frozen
class S3Parts:
    """Uploads in parts of one bucket."""

    bucket: Bucket

    async def begin(self, key: str, info: dict[str, Any], sha256: str | None = None) -> Upload:
        """See `ObjectStore.begin_parts`; `sha256` of the whole, where it is known."""
        answer = await self.bucket.call(
            "create_multipart_upload", Key=key, ContentType=info["content_type"], ChecksumAlgorithm="SHA256",
            Metadata=self.bucket.metadata(key, info, sha256),
        )  # fmt: skip
        return Upload(key, answer["UploadId"])

    async def put(self, upload: Upload, number: int, source: Path, found: Expected, start: int = 0) -> Part:
        """Send a piece of a local file, from `start` on, as part `number`."""
        check_part(number, found.size)
        checksum = base64_of(found.sha256)
        url = await self.bucket.address(
            "upload_part", _SECONDS, PartNumber=number, ContentLength=found.size, ChecksumSHA256=checksum,
            **upload.params,
        )  # fmt: skip
        headers = {"x-amz-checksum-sha256": checksum}
        etag = await retried(lambda: self.bucket.send(url, headers, source, start, found.size))
        return Part(number, found.size, found.sha256, etag)

    async def list(self, upload: Upload) -> list[Part]:
        """See `ObjectStore.parts`. A server may not tell the checksum of a part; then its `sha256` is ""."""
        found: list[Part] = []
        after = 0
        while True:
            try:
                page = await self.bucket.call("list_parts", PartNumberMarker=after, **upload.params)
            except ClientError:
                raise PartsNotFound(begun=upload.id[:64]) from None
            for part in page.get("Parts", []):
                sha256 = base64.b64decode(part.get("ChecksumSHA256") or "").hex()
                found.append(Part(part["PartNumber"], part["Size"], sha256, part["ETag"].strip('"')))
            if not page.get("IsTruncated"):
                return found
            last, after = after, page.get("NextPartNumberMarker", 0)
            if after <= last:
                raise contradicted()

    async def complete(self, upload: Upload, parts: Sequence[Part]) -> None:
        """See `ObjectStore.complete_parts`. S3 compares the checksums named here with those of the bytes."""
        stored = {part.number: part for part in await self.list(upload)}
        for part in parts:
            if part.number not in stored or stored[part.number].etag != part.etag:
                raise PartsInvalid(reason=f"part {part.number} is not stored with this etag")
        check_parts([stored[part.number] for part in parts])
        named = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumSHA256": base64_of(part.sha256)} if part.sha256 else {})
            for part in parts
        ]
        await self.bucket.call("complete_multipart_upload", MultipartUpload={"Parts": named}, **upload.params)

    async def abort(self, upload: Upload) -> None:
        """See `ObjectStore.abort_parts`."""
        with suppress(ClientError):
            await self.bucket.call("abort_multipart_upload", **upload.params)

    async def put_file(self, key: str, source: Path, whole: Expected, info: dict[str, Any]) -> None:
        """Send a whole local file, a few parts at a time. What breaks off leaves nothing."""
        upload = await self.begin(key, info, whole.sha256)
        sending = asyncio.Semaphore(_AT_ONCE)
        size = part_size(whole.size)

        async def send(start: int) -> Part:
            async with sending:
                length = min(size, whole.size - start)
                digest = await asyncio.to_thread(_sha256, source, start, length)
                return await self.put(upload, start // size + 1, source, Expected(length, digest), start)

        await self._all(upload, [send(start) for start in range(0, whole.size, size)])

    async def copy(self, source_key: str, key: str, info: ObjectInfo) -> None:
        """Copy an object of any size within the bucket."""
        upload = await self.begin(key, {"content_type": info.content_type, "metadata": info.metadata}, info.sha256)
        copying = asyncio.Semaphore(_AT_ONCE)

        async def copy(start: int) -> Part:
            async with copying:
                end = min(start + COPY_BYTES, info.size)
                number = start // COPY_BYTES + 1
                answer = await self.bucket.call(
                    "upload_part_copy", PartNumber=number, **upload.params,
                    CopySource={"Bucket": self.bucket.name, "Key": source_key},
                    CopySourceRange=f"bytes={start}-{end - 1}",
                )  # fmt: skip
                return Part(number, end - start, "", answer["CopyPartResult"]["ETag"].strip('"'))

        await self._all(upload, [copy(start) for start in range(0, info.size, COPY_BYTES)])

    async def note_sha256(self, key: str, info: ObjectInfo, sha256: str) -> None:
        """Add the SHA-256 of the whole to what is known of an object: S3 tells none of what came in parts.

        Raises `ObjectReplaced` when it is another one by now.
        """
        about: dict[str, Any] = {"content_type": info.content_type, "metadata": info.metadata}
        source = {"Bucket": self.bucket.name, "Key": key}
        if is_etag(info.version):
            same: dict[str, Any] = {"CopySource": source, "CopySourceIfMatch": f'"{info.version}"'}
        else:
            same = {"CopySource": {**source, "VersionId": info.version}}
        if info.size > COPY_BYTES:
            await self.copy(key, key, attrs.evolve(info, sha256=sha256))
        else:
            try:
                await self.bucket.call(
                    "copy_object", Key=key, MetadataDirective="REPLACE", ContentType=info.content_type,
                    Metadata=self.bucket.metadata(key, about, sha256), **same,
                )  # fmt: skip
            except ClientError:
                raise ObjectReplaced(key=info.name) from None
        if not is_etag(info.version):
            await self.bucket.call("delete_object", Key=key, VersionId=info.version)

    async def _all(self, upload: Upload, work: Sequence[Any]) -> None:
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            await self.complete(upload, await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            with suppress(ObjectStoreUnavailable):
                await self.abort(upload)
            raise


def part_size(size: int) -> int:
    """Parts for a file of `size` bytes: of the usual size, or larger where 10 000 of those are not enough."""
    return max(PART_BYTES, -(-size // 10_000))


def _sha256(source: Path, start: int, size: int) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as file:
        file.seek(start)
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            size -= len(chunk)
            digest.update(chunk)
    return digest.hexdigest()
