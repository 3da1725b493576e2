"""The object store protocol: files of runs, by namespace and name.

A namespace is the files of one run, the inputs of one run, or the uploads (`namespaces.py`). Each put makes a new
version and replaces the one before; the version names one content for as long as it is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import attrs

from devkit_api.errors import ObjectKeyInvalid

MAX_NAME_BYTES = 512
CHUNK = 256 * 1024


@attrs.frozen(kw_only=True)
class Listed:
    """What a listing tells of a file. Size in bytes, time in ISO 8601 UTC."""

    name: str
    size: int
    created_at: str


@attrs.frozen(kw_only=True)
class ObjectInfo(Listed):
    """A stored file. `sha256` is hex; `version` changes with each put and is the file's ETag."""

    sha256: str
    content_type: str
    version: str
    metadata: dict[str, str] = attrs.Factory(dict)


@attrs.frozen
class Expected:
    """What an upload must turn out to be: exact size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


@attrs.frozen
class DirectPut:
    """An address of the store itself to put a file to, and the headers that belong to it."""

    url: str
    headers: dict[str, str]


class ObjectStore(Protocol):
    """Files under namespaces. An upload is visible whole or not at all.

    Every method may raise `ObjectStoreUnavailable` or `StateError` when the store cannot do its work now.
    """

    async def open(self) -> None:
        """Get ready. A store elsewhere that does not answer is no reason not to start."""

    async def close(self) -> None:
        """Free everything."""

    async def check(self) -> None:
        """Raise when the store cannot be used now."""

    async def put(
        self, namespace: str, name: str, chunks: AsyncIterator[bytes], expected: Expected | None, info: dict[str, Any]
    ) -> ObjectInfo:
        """Store a file; `info` holds `content_type` and `metadata`. Raises `ChecksumMismatch`."""

    async def stat(self, namespace: str, name: str) -> ObjectInfo | None:
        """What is known of a file, or None."""

    def read(
        self, namespace: str, name: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` on, at most `length`. Raises `ObjectNotFound`, also for another version."""

    async def local_path(self, namespace: str, info: ObjectInfo) -> Path | None:
        """Where the bytes are, for stores that keep them on this machine."""

    async def direct_get(self, namespace: str, info: ObjectInfo, seconds: int) -> str | None:
        """An address of the store itself to read the file; None when the devkit serves it."""

    async def direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut | None:
        """An address of the store itself for exactly this content; None when the devkit takes it."""

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Listed], str | None]:
        """Files in order of name (by code point), after `after`; and the name to go on after, or None."""

    async def copy(self, namespace: str, name: str, to_namespace: str, to_name: str) -> ObjectInfo:
        """Copy a file without moving its bytes through the devkit. Raises `ObjectNotFound`."""

    async def delete(self, namespace: str, name: str) -> None:
        """Remove a file; a missing one is fine."""

    async def delete_namespace(self, namespace: str) -> None:
        """Remove every file of a namespace."""

    async def sweep(self, is_known: Callable[[str], bool]) -> int:
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
