"""The object store protocol: files of runs, by run and name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import attrs

from devkit_api.errors import ObjectKeyInvalid

MAX_NAME_BYTES = 512


@attrs.frozen
class ObjectInfo:
    """A stored file. `sha256` is hex; times are ISO 8601 UTC; `version` changes with each put."""

    name: str
    size: int
    sha256: str
    content_type: str
    version: str
    created_at: str
    metadata: dict[str, str] = attrs.Factory(dict)


@attrs.frozen
class Expected:
    """What an upload must turn out to be: exact size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


class ObjectStore(Protocol):
    """Files under a namespace (the run id). An upload is visible whole or not at all."""

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Free everything."""

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected, info: dict[str, Any]
    ) -> ObjectInfo:
        """Store a file; `info` holds `content_type` and `metadata`. Raises `ChecksumMismatch`, `StateError`."""

    async def stat(self, namespace: str, name: str) -> ObjectInfo | None:
        """What is known of a file, or None."""

    async def local_path(self, namespace: str, name: str) -> Path | None:
        """Where the bytes are, for stores that keep them on this machine."""

    async def list(self, namespace: str, *, prefix: str, after: str, limit: int) -> tuple[list[ObjectInfo], str | None]:
        """Files in order of name, after `after`; and the name to go on after, or None."""

    async def delete(self, namespace: str, name: str) -> None:
        """Remove a file; a missing one is fine."""

    async def delete_namespace(self, namespace: str) -> None:
        """Remove every file of a namespace."""

    async def sweep(self, known: set[str]) -> int:
        """Remove the files of namespaces that are not known; how many namespaces went."""


def check_name(name: str) -> str:
    """`name` when it is a plain relative path. Raises `ObjectKeyInvalid`."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise ObjectKeyInvalid(reason=f"it must have 1 to {MAX_NAME_BYTES} bytes")
    if not name.isprintable() or "\\" in name:
        raise ObjectKeyInvalid(reason="it holds control characters or a backslash")
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise ObjectKeyInvalid(reason="it has an empty, '.' or '..' part, or starts or ends with '/'")
    return name
