"""The file of an export: a gzipped tar that any tar can list, written and read as a stream.

Its last member holds the number of members before it and one digest over all their names, sizes and SHA-256s. An
archive that lacks it was cut short. The digest finds damage; it does not say who made the archive.

Reading is our own loop over headers: the library's reader takes a header of any length into memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from devkit_api.transfer import TransferRefused
from devkit_api.transfer.layout import END

CHUNK = 256 * 1024
_BLOCK = 512
_LONGEST_NAME = 4096
_LARGEST_JSON = 1024 * 1024


class _Chain:
    """Count and digest of the members so far."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, name: str, size: int, sha256: str) -> None:
        self.count += 1
        self._digest.update(f"{name}\0{size}\0{sha256}\n".encode())

    def end(self) -> dict[str, Any]:
        return {"members": self.count, "sha256": self._digest.hexdigest()}


class Writer:
    """Adds members; `finish` writes the last one."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=3, mtime=0)
        self._tar = tarfile.open(fileobj=self._zip, mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self._chain = _Chain()

    def add_json(self, name: str, value: Any) -> None:
        """A small JSON document."""
        self.add_bytes(name, json.dumps(value, indent=1).encode())

    def add_bytes(self, name: str, data: bytes, *, mode: int = 0o600, mtime: int = 0) -> None:
        """A member that is in memory."""
        self._add(name, io.BytesIO(data), len(data), mode, mtime)

    def add_stream(self, name: str, source: Any, size: int, *, mtime: int) -> str:
        """A member that is read from `source`; its SHA-256 in hex. Raises `TransferRefused` when it ends early."""
        return self._add(name, source, size, 0o600, mtime)

    def add_file(self, name: str, path: Path) -> int:
        """A file of the disk; its size. Raises `TransferRefused` when it changes meanwhile."""
        with path.open("rb") as file:
            info = path.stat()
            self._add(name, file, info.st_size, info.st_mode & 0o755, int(info.st_mtime))
        return info.st_size

    def finish(self) -> None:
        """Write the last member and close the archive."""
        self.add_json(END, self._chain.end())
        self._tar.close()
        self._zip.close()

    def _add(self, name: str, source: BinaryIO, size: int, mode: int, mtime: int) -> str:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, mode, mtime
        hashing = _Hashing(source)
        try:
            self._tar.addfile(info, hashing)
        except OSError as exc:
            if exc.errno is None:  # what the library says of a file that ends early
                raise TransferRefused(f"{name} changed while it was read; stop what changes it") from None
            raise
        self._chain.add(name, size, hashing.digest.hexdigest())
        return hashing.digest.hexdigest()


class _Hashing:
    """A source that digests what is read from it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


@attrs.define
class Member:
    """One member while it is the current one of a `Reader`."""

    name: str
    size: int
    mode: int
    mtime: int
    _reader: Reader
    _left: int
    _digest: Any = attrs.field(factory=hashlib.sha256)

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, once."""
        while self._left:
            data = self._reader.take(min(CHUNK, self._left))
            self._left -= len(data)
            self._digest.update(data)
            yield data

    def json(self) -> Any:
        """Its content as JSON. Raises `TransferRefused`."""
        if self.size > _LARGEST_JSON:
            raise TransferRefused("the archive is damaged, or is no export of a devkit")
        try:
            return json.loads(b"".join(self.chunks()))
        except (ValueError, RecursionError):
            raise TransferRefused("the archive is damaged, or is no export of a devkit") from None

    def close(self, chain: _Chain | None) -> None:
        """Read what nobody read, and count the member."""
        for _ in self.chunks():
            pass
        self._reader.take(-self.size % _BLOCK)
        if chain is not None:
            chain.add(self.name, self.size, self._digest.hexdigest())


class Reader:
    """Members in order, bounded in number and bytes; after the last one everything is known to be whole."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._zip = gzip.GzipFile(fileobj=file, mode="rb")
        self._left = most_bytes

    def members(self) -> Iterator[Member]:
        """Each member, to be read before the next. Raises `TransferRefused` for damage, at the latest at the end."""
        chain = _Chain()
        while (member := self._next()) is not None:
            if member.name == END:
                expected = chain.end()
                if member.json() != expected:
                    raise TransferRefused("the archive is damaged: its checksums do not fit")
                member.close(None)
                self._check_nothing_follows()
                return
            yield member
            member.close(chain)
        raise TransferRefused("the archive was cut short")

    def take(self, size: int) -> bytes:
        """The next `size` bytes of the tar."""
        self._left -= size
        if self._left < 0:
            raise TransferRefused("the archive holds more bytes than are taken; see --max-bytes")
        data = self._zip.read(size) if size else b""
        if len(data) != size:
            raise TransferRefused("the archive was cut short")
        return data

    def _check_nothing_follows(self) -> None:
        """Zeros up to the end: reading them has gzip compare its own checksum."""
        while data := self._zip.read(CHUNK):
            self._left -= len(data)
            if data.strip(b"\0") or self._left < 0:
                raise TransferRefused("the archive holds something after its end")

    def _next(self) -> Member | None:
        long_name = None
        while True:
            block = self.take(_BLOCK)
            if not block.strip(b"\0"):
                return None
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
            except (tarfile.HeaderError, UnicodeDecodeError, ValueError):
                raise TransferRefused("the archive is damaged, or is no export of a devkit") from None
            if info.size < 0:
                raise TransferRefused("the archive is damaged, or is no export of a devkit")
            if info.type != tarfile.GNUTYPE_LONGNAME:
                break
            if info.size > _LONGEST_NAME or long_name is not None:
                raise TransferRefused("the archive holds a name that is not allowed")
            try:
                long_name = self.take(info.size + -info.size % _BLOCK)[: info.size].rstrip(b"\0").decode()
            except UnicodeDecodeError:
                raise TransferRefused("the archive holds a name that is not allowed") from None
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise TransferRefused(f"the archive holds a link, folder or device: {info.name[:100]!r}")
        name = long_name or info.name
        return Member(name, info.size, info.mode & 0o755, max(0, int(info.mtime)), self, info.size)


@contextmanager
def damage_refused() -> Iterator[None]:
    """What gzip raises for damage, in our words."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise TransferRefused("the archive is damaged or was cut short") from None
