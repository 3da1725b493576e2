"""An S3 server of its own, and a proxy that misbehaves on demand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from devkit_api.settings import Settings, load_settings
from tests.support.waiting import free_port

ACCESS = {"s3_access_key": "test-access", "s3_secret_key": "test-secret-0123456789"}


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of an S3 server on a free port."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_settings(endpoint: str, bucket: str) -> dict[str, Any]:
    """Settings (without their prefix) that keep objects at this S3."""
    return {"s3_endpoint": endpoint, "s3_bucket": bucket, **ACCESS}


def load_s3(endpoint: str, bucket: str, state: Any) -> Settings:
    """The settings a store is made with."""
    names = {**s3_settings(endpoint, bucket), "api_key": "test-key-0123456789abcdef", "state_dir": str(state)}
    return load_settings({f"DEVKIT_{name.upper()}": str(value) for name, value in names.items()})


def make_versioned(endpoint: str, bucket: str) -> None:
    """A new bucket that keeps versions."""
    client = _client(endpoint)
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def unfinished(endpoint: str, bucket: str) -> list[str]:
    """Keys of uploads in parts that were begun and neither completed nor given up."""
    return [upload["Key"] for upload in _client(endpoint).list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def keys(endpoint: str, bucket: str) -> set[str]:
    """Keys of every object of a bucket."""
    return {item["Key"] for item in _client(endpoint).list_objects_v2(Bucket=bucket).get("Contents", [])}


def _client(endpoint: str) -> Any:
    secrets = (ACCESS["s3_access_key"], ACCESS["s3_secret_key"])
    return boto3.client(
        "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id=secrets[0], aws_secret_access_key=secrets[1]
    )


class FaultyProxy:
    """Passes bytes on to a server, or does what `fault` says.

    refuse, error (HTTP 500), silence; cut (the answer, after bytes), stall (the answer, after bytes, for good), reset
    (the request, after bytes).

    A fault with a `count` ends by itself after so many connections; `seen` counts connections.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.seen = 0
        self.fault: str | None = None
        self.count = -1
        self.cut_after = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.port = self.port or free_port()  # the same after a stop
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    def break_with(self, fault: str, count: int = -1, cut_after: int = 0) -> None:
        self.fault, self.count, self.cut_after, self.seen = fault, count, cut_after, 0

    def heal(self) -> None:
        self.fault = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection, so that a fault meets the next one."""
        self.seen += 1
        if self.fault == "refuse" and self.count != 0:
            self.count -= 1
            writer.transport.abort()
            return
        head = await reader.readuntil(b"\r\n\r\n")
        fault = self.fault if self.count != 0 else None
        if fault == "reset" and _body_size(head) <= self.cut_after:
            fault = None
        if fault:
            self.count -= 1
        if fault == "silence":
            await asyncio.Event().wait()
        if fault == "error":
            writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        try:
            up_writer.write(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n")
            if fault == "reset":
                await _pump(reader, up_writer, self.cut_after)
                writer.transport.abort()
                return
            forward = asyncio.create_task(_pump(reader, up_writer))
            await _pump(up_reader, writer, self.cut_after if fault in {"cut", "stall"} else None, fault == "stall")
            forward.cancel()
        finally:
            up_writer.close()


def _body_size(head: bytes) -> int:
    found = re.search(rb"(?i)content-length: *([0-9]+)", head)
    return int(found[1]) if found else 0


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None = None, stall: bool = False
) -> None:
    passed = 0
    while data := await reader.read(64 * 1024):
        writer.write(data if limit is None else data[: limit - passed])
        await writer.drain()
        passed += len(data)
        if limit is not None and passed >= limit:
            if stall:
                await asyncio.Event().wait()
            writer.transport.abort()
            return
