"""Objects in a bucket of S3 or MinIO.

Files of a run lie under `runs/<run id>/files/`, as their `s3://` names say, so that other tools find them. Clients
read and write through presigned addresses of the bucket itself: their bytes never pass through the devkit. A presigned
put is signed for one length and one SHA-256, which S3 verifies before the object becomes visible.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from devkit_api.errors import ObjectNotFound, ObjectReplaced, ObjectStoreUnavailable
from devkit_api.httpio import attachment
from devkit_api.objects.file_receive import receive
from devkit_api.objects.namespaces import prefix_of
from devkit_api.objects.protocol import CHUNK, DirectPut, Expected, Listed, ObjectInfo
from devkit_api.objects.s3_calls import ATTEMPT_SECONDS, ATTEMPTS, TransferFailed, is_missing, retried, unavailable
from devkit_api.settings import Settings
from devkit_api.state import StateError

_CONNECTIONS = 32
_CHECK_SECONDS = 1.5
_SHA256 = "devkit-sha256"
_PAGE = 1000
_LEAST_THROUGHPUT = 64 * 1024  # bytes per second below which a transfer has failed


class S3ObjectStore:
    """`ObjectStore` on a bucket. `spool` is where uploads wait until their checksum is known."""

    def __init__(self, settings: Settings, spool: Path) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._spool = spool
        self._resources = AsyncExitStack()
        self._client: Any = None
        self._http: aiohttp.ClientSession
        self._bucket_seen = False
        self._bucket_lock = asyncio.Lock()

    async def open(self) -> None:
        """Open the pool. The bucket is looked for, and made, with the first call that needs it."""
        await asyncio.to_thread(_prepare_spool, self._spool)
        config = AioConfig(
            connect_timeout=3, read_timeout=ATTEMPT_SECONDS, max_pool_connections=_CONNECTIONS,
            retries={"total_max_attempts": 1}, signature_version="s3v4", s3={"addressing_style": "path"},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        client = get_session().create_client(
            "s3", endpoint_url=self._settings.s3_endpoint, region_name=self._settings.s3_region,
            aws_access_key_id=self._settings.s3_access_key, aws_secret_access_key=self._settings.s3_secret_key,
            config=config,
        )  # fmt: skip
        self._client = await self._resources.enter_async_context(client)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=ATTEMPT_SECONDS)
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        self._http = await self._resources.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout)
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._resources.aclose()

    async def check(self) -> None:
        """See `ObjectStore.check`: the bucket, and MinIO's own word where MinIO it is."""
        try:
            answer = await self._client.head_bucket(Bucket=self._bucket)
        except ClientError as exc:
            if not _no_bucket(exc):
                raise
            await self._make_bucket()
            answer = await self._client.head_bucket(Bucket=self._bucket)
        self._bucket_seen = True
        if answer["ResponseMetadata"]["HTTPHeaders"].get("server", "").lower().startswith("minio"):
            address = f"{str(self._settings.s3_endpoint).rstrip('/')}/minio/health/ready"
            async with self._http.get(address, timeout=aiohttp.ClientTimeout(total=_CHECK_SECONDS)) as ready:
                ready.raise_for_status()

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected | None, info: dict[str, Any]
    ) -> ObjectInfo:
        """See `ObjectStore.put`. The bytes wait in a local file: only what is whole and right is sent."""
        temporary = self._spool / f"{os.urandom(8).hex()}.part"
        try:
            found = await receive(temporary, chunks, expected)
            direct = await self.direct_put(namespace, name, found, info, seconds=300)
            await retried(lambda: self._send(direct, temporary, found.size))
        except ConnectionError:
            raise  # the sender went away; nothing is wrong here
        except OSError as exc:
            raise StateError("the file could not be stored") from exc
        finally:
            with suppress(OSError):
                await asyncio.to_thread(temporary.unlink)
        stored = await self.stat(namespace, name)
        if stored is None:
            raise ObjectStoreUnavailable(reason="it lost the file")
        return stored

    async def stat(self, namespace: str, name: str) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        try:
            head = await self._call("head_object", Key=_key(namespace, name), ChecksumMode="ENABLED")
        except ClientError:
            return None
        return _info(name, head)

    async def read(
        self, namespace: str, name: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `ObjectStore.read`. A connection that breaks is taken up where it broke, on the same version."""
        info = await self.stat(namespace, name)
        if info is None:
            raise ObjectNotFound(key=name)
        if version is not None and info.version != version:
            raise ObjectReplaced(key=name)
        end = info.size if length is None else min(info.size, start + length)
        breaks = -1
        while start < end:
            breaks += 1
            try:
                part = await self._call(
                    "get_object", Key=_key(namespace, name), Range=f"bytes={start}-{end - 1}",
                    IfMatch=f'"{info.version}"',
                )  # fmt: skip
            except ClientError:
                raise ObjectReplaced(key=name) from None
            try:
                async with part["Body"] as body:
                    while chunk := await body.read(CHUNK):
                        start += len(chunk)
                        yield chunk
            except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as exc:
                if breaks + 1 >= ATTEMPTS:
                    raise unavailable(exc) from exc

    async def local_path(self, namespace: str, info: ObjectInfo) -> Path | None:
        """The bytes are elsewhere."""
        return None

    async def direct_get(self, namespace: str, info: ObjectInfo, seconds: int) -> str | None:
        """See `ObjectStore.direct_get`."""
        params = {
            "Bucket": self._bucket,
            "Key": _key(namespace, info.name),
            "ResponseContentDisposition": attachment(info.name),
        }
        url: str = await self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
        return url

    async def direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut:
        """See `ObjectStore.direct_put`."""
        await self._find_bucket()
        checksum = base64.b64encode(bytes.fromhex(expected.sha256)).decode()
        # Percent-encoded: S3 takes ASCII only.
        metadata = {key: quote(value, safe=" /:+,;=@") for key, value in info["metadata"].items()}
        metadata[_SHA256] = expected.sha256
        params = {
            "Bucket": self._bucket,
            "Key": _key(namespace, name),
            "ContentType": info["content_type"],
            "ContentLength": expected.size,
            "ChecksumSHA256": checksum,
            "Metadata": metadata,
        }
        url: str = await self._client.generate_presigned_url("put_object", Params=params, ExpiresIn=seconds)
        headers = {"x-amz-checksum-sha256": checksum, "Content-Type": info["content_type"]}
        headers |= {f"x-amz-meta-{key}": value for key, value in metadata.items()}
        return DirectPut(url, headers)

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Listed], str | None]:
        """See `ObjectStore.list`. S3 answers at most 1000 names at a time."""
        base = prefix_of(namespace)
        found: list[Listed] = []
        while True:
            start = {"StartAfter": base + after} if after else {}
            size = min(_PAGE, limit - len(found))
            page = await self._call("list_objects_v2", Prefix=base + prefix, MaxKeys=size, **start)
            found += [
                Listed(name=item["Key"][len(base) :], size=item["Size"], created_at=_time(item["LastModified"]))
                for item in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                return found, None
            after = found[-1].name
            if len(found) >= limit:
                return found, after

    async def copy(self, namespace: str, name: str, to_namespace: str, to_name: str) -> ObjectInfo:
        """See `ObjectStore.copy`."""
        source = {"Bucket": self._bucket, "Key": _key(namespace, name)}
        try:
            await self._call("copy_object", Key=_key(to_namespace, to_name), CopySource=source)
        except ClientError:
            raise ObjectNotFound(key=name) from None
        info = await self.stat(to_namespace, to_name)
        if info is None:
            raise ObjectStoreUnavailable(reason="it lost the file")
        return info

    async def delete(self, namespace: str, name: str) -> None:
        """See `ObjectStore.delete`."""
        with suppress(ClientError):
            await self._call("delete_object", Key=_key(namespace, name))

    async def delete_namespace(self, namespace: str) -> None:
        """See `ObjectStore.delete_namespace`."""
        while True:
            listed, more = await self.list(namespace, limit=_PAGE)
            if listed:
                keys = [{"Key": _key(namespace, item.name)} for item in listed]
                await self._call("delete_objects", Delete={"Objects": keys, "Quiet": True})
            if more is None:
                return

    async def sweep(self, is_known: Callable[[str], bool]) -> int:
        """Nothing is swept: another devkit may share the bucket, and its runs are not known here."""
        return 0

    async def _send(self, direct: DirectPut, source: Path, size: int) -> None:
        timeout = aiohttp.ClientTimeout(total=60 + size / _LEAST_THROUGHPUT, sock_connect=3, sock_read=60)
        headers = {**direct.headers, "Content-Length": str(size)}
        with await asyncio.to_thread(source.open, "rb") as body:
            async with self._http.put(direct.url, data=body, headers=headers, timeout=timeout) as answer:
                if answer.status != 200:
                    raise TransferFailed(answer.status)

    async def _call(self, operation: str, **params: Any) -> Any:
        """One operation on the bucket. Raises `ClientError` when the object is missing, else as `retried`."""
        await self._find_bucket()
        method = getattr(self._client, operation)
        return await retried(lambda: method(Bucket=self._bucket, **params))

    async def _find_bucket(self) -> None:
        if self._bucket_seen:
            return
        async with self._bucket_lock:
            if not self._bucket_seen:
                await retried(self.check)

    async def _make_bucket(self) -> None:
        region = self._settings.s3_region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self._client.create_bucket(Bucket=self._bucket, **place)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
                raise


def _key(namespace: str, name: str) -> str:
    return prefix_of(namespace) + name


def _no_bucket(exc: ClientError) -> bool:
    return is_missing(exc) or exc.response.get("Error", {}).get("Code") == "NoSuchBucket"


def _info(name: str, head: dict[str, Any]) -> ObjectInfo:
    metadata = {key: unquote(value) for key, value in head.get("Metadata", {}).items()}
    sha256 = metadata.pop(_SHA256, "")
    if not sha256 and head.get("ChecksumSHA256") and "-" not in head["ChecksumSHA256"]:
        sha256 = base64.b64decode(head["ChecksumSHA256"]).hex()
    return ObjectInfo(
        name=name,
        size=head["ContentLength"],
        sha256=sha256,
        content_type=head.get("ContentType", "application/octet-stream"),
        version=head["ETag"].strip('"'),
        created_at=_time(head["LastModified"]),
        metadata=metadata,
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _prepare_spool(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.part"):
        leftover.unlink(missing_ok=True)
