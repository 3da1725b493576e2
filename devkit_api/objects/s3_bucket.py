"""The bucket: its client, its connections, and calls that may fail for a moment."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from devkit_api.objects.protocol import CHUNK, ObjectInfo
from devkit_api.objects.s3_calls import ATTEMPT_SECONDS, TransferFailed, is_missing, retried
from devkit_api.objects.s3_owner import OWNER
from devkit_api.settings import Settings

_CONNECTIONS = 32
_CHECK_SECONDS = 1.5
_SHA256 = "devkit-sha256"
# Patience with a server that has all bytes and says nothing.
ANSWER_SECONDS = 60
_LEAST_THROUGHPUT = 64 * 1024  # bytes per second below which a transfer has failed
_ETAG = re.compile(r"[0-9a-f]{32}(?:-[0-9]+)?")
_TELLS_NO_VERSIONS = frozenset({"NotImplemented", "MethodNotAllowed", "AccessDenied"})
_NO_SUCH_VERSION = frozenset({"400", "InvalidArgument", "NoSuchVersion"})


class Bucket:
    """One bucket of S3 or MinIO.

    `versioned` says whether it keeps earlier versions; `owners` whose files are this devkit's, its own id first.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.s3_bucket
        self.versioned = False
        self.owners: tuple[str, ...] = ()
        self._resources = AsyncExitStack()
        self.client: Any = None
        self._http: aiohttp.ClientSession
        self._seen = False
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Open the pool. The bucket is looked for, and made, with the first call that needs it."""
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
        self.client = await self._resources.enter_async_context(client)
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
            answer = await self.client.head_bucket(Bucket=self.name)
        except ClientError as exc:
            if not _no_bucket(exc):
                raise
            await self._make()
            answer = await self.client.head_bucket(Bucket=self.name)
        if not self._seen:
            self.versioned = await self._is_versioned()
            self._seen = True
        if answer["ResponseMetadata"]["HTTPHeaders"].get("server", "").lower().startswith("minio"):
            address = f"{str(self._settings.s3_endpoint).rstrip('/')}/minio/health/ready"
            async with self._http.get(address, timeout=aiohttp.ClientTimeout(total=_CHECK_SECONDS)) as ready:
                ready.raise_for_status()

    async def find(self) -> None:
        """See that the bucket is there, once."""
        if self._seen:
            return
        async with self._lock:
            if not self._seen:
                await retried(self.check)

    async def call(self, operation: str, **params: Any) -> Any:
        """One operation on the bucket. Raises as `retried`; a `ClientError` is of an object missing or replaced."""
        await self.find()
        method = getattr(self.client, operation)
        return await retried(lambda: method(Bucket=self.name, **params))

    async def head(self, key: str, version: str | None = None) -> Any | None:
        """What is known of an object, or of one version of it; None when there is none."""
        await self.find()
        pinned = {"VersionId": version} if version is not None and self.versioned and not is_etag(version) else {}

        async def head() -> Any | None:
            try:
                return await self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED", **pinned)
            except ClientError as exc:
                # A version id of another form is not missing but wrong, says S3.
                if is_missing(exc) or (pinned and exc.response.get("Error", {}).get("Code") in _NO_SUCH_VERSION):
                    return None
                raise

        found = await retried(head)
        return found if found is None or version in {None, version_of(found)} else None

    async def address(self, operation: str, seconds: int, **params: Any) -> str:
        """A presigned address for one operation."""
        await self.find()
        params = {"Bucket": self.name, **params}
        url: str = await self.client.generate_presigned_url(operation, Params=params, ExpiresIn=seconds)
        return url

    async def send(self, url: str, headers: dict[str, str], source: Path, start: int, size: int) -> str:
        """Put `size` bytes of a file, from `start` on, to a presigned address; the ETag of what is stored."""
        timeout = aiohttp.ClientTimeout(total=60 + size / _LEAST_THROUGHPUT, sock_connect=3, sock_read=ANSWER_SECONDS)
        headers = {**headers, "Content-Length": str(size)}
        with await asyncio.to_thread(source.open, "rb") as file:
            await asyncio.to_thread(file.seek, start)
            async with self._http.put(url, data=_slice(file, size), headers=headers, timeout=timeout) as answer:
                if answer.status != 200:
                    raise TransferFailed(answer.status)
                return answer.headers.get("ETag", "").strip('"')

    def metadata(self, key: str, info: dict[str, Any], sha256: str | None) -> dict[str, str]:
        """What is told with a file at `key`, and whose it is where no run says so. ASCII only: percent-encoded."""
        metadata = {name: quote(value, safe=" /:+,;=@") for name, value in info["metadata"].items()}
        metadata |= {_SHA256: sha256} if sha256 else {}
        return metadata if key.startswith("runs/") else metadata | {OWNER: self.owners[0]}

    async def owner_of(self, key: str) -> str | None:
        """The id of the devkit that put a file; "" when nothing says so, None when it is gone."""
        head = await self.head(key)
        return None if head is None else str(head.get("Metadata", {}).get(OWNER, ""))

    async def _is_versioned(self) -> bool:
        """Whether it keeps versions, also from earlier; a server that never tells has none."""
        try:
            found = await self.client.get_bucket_versioning(Bucket=self.name)
        except ClientError as exc:
            # Any other failure may pass, and the answer is remembered.
            if exc.response.get("Error", {}).get("Code") not in _TELLS_NO_VERSIONS:
                raise
            return False
        return found.get("Status") in {"Enabled", "Suspended"}

    async def _make(self) -> None:
        region = self._settings.s3_region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self.client.create_bucket(Bucket=self.name, **place)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
                raise


async def _slice(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    while size > 0 and (chunk := await asyncio.to_thread(file.read, min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


def base64_of(sha256: str) -> str:
    """A SHA-256 in hex as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def is_etag(version: str) -> bool:
    """Whether a version is the ETag of an object, for want of versions."""
    return _ETAG.fullmatch(version) is not None


def pinned(version: str) -> dict[str, str]:
    """Parameters for reading this version and no other."""
    return {"IfMatch": f'"{version}"'} if is_etag(version) else {"VersionId": version}


def version_of(head: dict[str, Any]) -> str:
    """The version of an object: the bucket's own where it has versions."""
    version: str | None = head.get("VersionId")
    return version if version and version != "null" else str(head["ETag"]).strip('"')


def info_of(name: str, head: dict[str, Any]) -> ObjectInfo:
    """What a `head` tells."""
    metadata = {key: unquote(value) for key, value in head.get("Metadata", {}).items()}
    sha256 = metadata.pop(_SHA256, "")
    metadata.pop(OWNER, None)
    # Of what came in parts, it is the checksum of the checksums of the parts.
    if not sha256 and head.get("ChecksumSHA256") and "-" not in head["ETag"]:
        sha256 = base64.b64decode(head["ChecksumSHA256"]).hex()
    return ObjectInfo(
        name=name,
        size=head["ContentLength"],
        sha256=sha256,
        content_type=head.get("ContentType", "application/octet-stream"),
        version=version_of(head),
        created_at=time_of(head["LastModified"]),
        metadata=metadata,
    )


def time_of(moment: datetime) -> str:
    """In ISO 8601 UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_bucket(exc: ClientError) -> bool:
    return is_missing(exc) or exc.response.get("Error", {}).get("Code") == "NoSuchBucket"
