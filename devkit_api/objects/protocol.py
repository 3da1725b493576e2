"""The object store protocol: files of runs, by namespace and name.

A namespace is the files of one run, the inputs of one run, or the uploads (`namespaces.py`). Each put makes a new
version, which is the file from then on; the version names one content for as long as it is kept. The file store keeps
a few earlier versions, a bucket those its own versioning keeps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from devkit_api.errors import ObjectKeyInvalid, PartsInvalid

MAX_NAME_BYTES = 512
# Of a file sent in parts, as S3 has it: every part but the last has at least so many bytes.
MIN_PART_BYTES = 5 * 1024**2
MAX_PART_BYTES = 5 * 1024**3
MAX_PARTS = 10_000
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
class Version:
    """One kept version of a file. Size in bytes, time in ISO 8601 UTC."""

    version: str
    size: int
    created_at: str


@attrs.frozen
class Begun:
    """A file that comes in parts, until it is whole. `upload` is the store's own id for it."""

    namespace: str
    name: str
    upload: str


@attrs.frozen
class Part:
    """A stored part of a file that is not there yet. `number` from 1, `size` in bytes, `sha256` in hex."""

    number: int
    size: int
    sha256: str
    etag: str


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

    async def stat(self, namespace: str, name: str, version: str | None = None) -> ObjectInfo | None:
        """What is known of a file, or of one kept version of it; None when there is none."""

    async def versions(self, namespace: str, info: ObjectInfo) -> list[Version]:
        """The kept versions of a file, newest first; `info` is the file as it is now."""

    def read(
        self, namespace: str, name: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from `start` on, at most `length`.

        Raises `ObjectNotFound`, or `ObjectReplaced` when the version is not kept.
        """

    async def local_path(self, namespace: str, info: ObjectInfo) -> Path | None:
        """Where the bytes are, for stores that keep them on this machine."""

    async def direct_get(self, namespace: str, info: ObjectInfo, seconds: int) -> str | None:
        """An address of the store itself to read the file; None when the devkit serves it."""

    async def direct_put(
        self, namespace: str, name: str, expected: Expected, info: dict[str, Any], seconds: int
    ) -> DirectPut | None:
        """An address of the store itself for exactly this content; None when the devkit takes it."""

    async def begin_parts(self, namespace: str, name: str, info: dict[str, Any]) -> Begun:
        """Begin a file that comes in parts. The file itself is as it was until they are complete."""

    async def put_part(self, begun: Begun, number: int, chunks: AsyncIterator[bytes], expected: Expected) -> Part:
        """Store a part, in place of an earlier one. Raises `PartsInvalid`, `PartsNotFound`, `ChecksumMismatch`."""

    async def parts(self, begun: Begun) -> list[Part]:
        """The stored parts, by number. Raises `PartsNotFound`."""

    async def complete_parts(self, begun: Begun, parts: Sequence[Part]) -> ObjectInfo:
        """Make the file of these parts, in order; others are dropped.

        Raises `PartsInvalid` when one is not as named or too small, `PartsNotFound`.
        """

    async def abort_parts(self, begun: Begun) -> None:
        """Give up what was begun, and free its parts; what is not there is fine."""

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Listed], str | None]:
        """Files in order of name (by code point), after `after`; and the name to go on after, or None."""

    async def copy(self, namespace: str, name: str, to_namespace: str, to_name: str) -> ObjectInfo:
        """Copy a file without moving its bytes through the devkit. Raises `ObjectNotFound`."""

    async def delete(self, namespace: str, name: str) -> None:
        """Remove a file with every version of it; a missing one is fine."""

    async def delete_namespace(self, namespace: str) -> None:
        """Remove every file of a namespace; of one that several devkits share, those of this devkit."""

    async def own(self, namespace: str, listed: Sequence[Listed], *, or_unmarked: bool = False) -> Sequence[Listed]:
        """Those of the listed files that are this devkit's: others may share the store.

        `or_unmarked` adds those of which nothing says whose they are.
        """

    async def sweep(self, is_known: Callable[[str], bool]) -> int:
        """Remove the files of namespaces that are not known, whole or in parts; how many namespaces went."""


def check_name(name: str) -> str:
    """`name` when it is a plain relative path. Raises `ObjectKeyInvalid`."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise ObjectKeyInvalid(reason=f"it must have 1 to {MAX_NAME_BYTES} bytes")
    if not name.isprintable() or "\\" in name:
        raise ObjectKeyInvalid(reason="it holds control characters or a backslash")
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise ObjectKeyInvalid(reason="it has an empty, '.' or '..' part, or starts or ends with '/'")
    return name


def check_parts(parts: Sequence[Part]) -> None:
    """Whether a file can be made of these parts. Raises `PartsInvalid`."""
    numbers = [part.number for part in parts]
    if not parts or numbers != sorted(set(numbers)):
        raise PartsInvalid(reason="the parts must be named once each, in order")
    for part in parts[:-1]:
        if part.size < MIN_PART_BYTES:
            raise PartsInvalid(reason=f"part {part.number} has fewer than {MIN_PART_BYTES} bytes, and is not the last")


def check_part(number: int, size: int) -> None:
    """Whether there may be such a part. Raises `PartsInvalid`."""
    if not 1 <= number <= MAX_PARTS:
        raise PartsInvalid(reason=f"parts have numbers from 1 to {MAX_PARTS}")
    if size > MAX_PART_BYTES:
        raise PartsInvalid(reason=f"a part has at most {MAX_PART_BYTES} bytes")
