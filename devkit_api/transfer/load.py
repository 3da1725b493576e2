"""Import: an export into an empty devkit, as a whole or not at all.

Everything is unpacked and checked beside the devkit's content; only a complete, undamaged import is moved into place
(`commit.py`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import psycopg2
from aiofiles.os import wrap

from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.failures import first_line
from devkit_api.database.lifetime import external_target
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.objects.s3_owner import FILE as OWNERS_FILE
from devkit_api.objects.s3_owner import are_owners, read_owners, write_owners
from devkit_api.settings import Settings
from devkit_api.state.binding import bind
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.archive import Member, Reader, damage_refused
from devkit_api.transfer.catalogs import CatalogWriter, is_used
from devkit_api.transfer.commit import STAGING, commit, discard
from devkit_api.transfer.documents import DocumentRows
from devkit_api.transfer.dump import Progress, Summary, owned
from devkit_api.transfer.layout import CATALOGS, FORMAT, HEADER, holds_content, state_path, table_of
from devkit_api.transfer.objects import OBJECTS, Delivery, bucket_of, waiting

MOST_BYTES = 100 * 1024**3
_KEEP_FREE = 256 * 1024 * 1024
_KEEP_FREE_FILES = 10_000
_LOOK_AT_DISK_EVERY = 64 * 1024 * 1024
# What a file takes besides its bytes; an archive of empty ones is small.
_FILE_BYTES = 4096


async def load(settings: Settings, source: Path, progress: Progress, *, most_bytes: int = MOST_BYTES) -> Summary:
    """Import `source`. Raises `TransferRefused`, `StoreLocked` or `OSError`; then nothing stays."""
    state = settings.state_dir.resolve()
    existed = state.is_dir()
    try:
        async with owned(settings):
            return await _load_owned(settings, source, progress, most_bytes)
    except BaseException:
        if not existed:
            with suppress(OSError):
                (state / "lock").unlink()
                shutil.rmtree(state / "spool", ignore_errors=True)
                (state / OWNERS_FILE).unlink(missing_ok=True)
                state.rmdir()
        raise


async def _load_owned(settings: Settings, source: Path, progress: Progress, most_bytes: int) -> Summary:
    state = settings.state_dir.resolve()
    held = holds_content(state)
    if held:
        raise TransferRefused(
            f"{state} is not an empty devkit: it holds {held}. Name another directory in DEVKIT_STATE_DIR, "
            "or move this one away"
        )
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=state))
    try:
        async with bucket_of(settings) as bucket:
            delivery = Delivery(bucket) if bucket else None
            try:
                unpacking = _Unpacking(staging, progress, source.stat().st_size)
                summary = await _stage(settings, source, unpacking, delivery, most_bytes)
                await wrap(commit)(state, staging)
                await wrap(unpacking.store_documents)()
            except BaseException:
                unpacking.forget_documents()
                if delivery is not None:
                    await delivery.undo()
                raise
    finally:
        if staging.is_dir():
            discard(staging)
    return summary


async def _stage(
    settings: Settings, source: Path, unpacking: _Unpacking, delivery: Delivery | None, most_bytes: int
) -> Summary:
    wait = waiting(asyncio.get_running_loop())

    def deliver() -> None:
        """Once everything is known to be whole, files may leave this machine."""
        folder = unpacking.staging / OBJECTS
        if delivery is not None and folder.is_dir():
            wait(delivery.send(folder))
            discard(folder)

    with source.open("rb") as file, damage_refused():
        members = Reader(file, most_bytes).members()
        header = await wrap(unpacking.begin)(file, members)
        if delivery is not None:
            # What the bucket holds already of those devkits is this one's from now on.
            owners = [*read_owners(settings.state_dir.resolve()), *header.get("owners", [])]
            await wrap(write_owners)(unpacking.staging, owners)
        has_rows = settings.state_backend == "postgres"
        if "catalogs" in header and not settings.catalogs:
            raise TransferRefused("the export holds catalogs, and DEVKIT_CATALOGS is off; set it to on")
        if "catalogs" not in header and not has_rows:
            await wrap(unpacking.rest)(None)
            await wrap(deliver)()
            return unpacking.summary
        async with _database(settings, unpacking.staging) as target:

            def fill() -> None:
                with connect(target) as connection:
                    if has_rows:
                        unpacking.open_documents(target)
                    writer = _catalog_writer(target, connection, header) if "catalogs" in header else None
                    unpacking.rest(writer)
                    deliver()
                    if has_rows:
                        unpacking.read_documents()
                    if writer is not None:
                        writer.finish()
                if settings.db_host is None:
                    unpacking.store_documents()  # in a server that gets into place with all the rest

            try:
                await wrap(fill)()
            except psycopg2.Error as exc:
                raise TransferRefused(f"the database does not take the import: {first_line(exc)}") from None
    return unpacking.summary


def _catalog_writer(target: Target, connection: Any, header: dict[str, Any]) -> CatalogWriter:
    used = is_used(connection)
    if used:
        raise TransferRefused(f"the database is not empty: {used} has rows; name another DEVKIT_DB_NAME")
    return CatalogWriter(target, connection, header["catalogs"])


@asynccontextmanager
async def _database(settings: Settings, staging: Path) -> AsyncIterator[Target]:
    """Where the catalogs go: to the database of the settings, or into one that becomes the embedded one."""
    if settings.db_host:
        yield external_target(settings)
        return
    server = EmbeddedPostgres(staging / "postgres")
    target = await server.start()
    try:
        yield target
    finally:
        await server.stop()


class _Unpacking:
    """Members of an archive on their way to staging."""

    def __init__(self, staging: Path, progress: Progress, archive_bytes: int) -> None:
        self.staging = staging
        self._progress = progress
        self._archive_bytes = archive_bytes
        self._since_look = 0
        self._members: Iterator[Member] = iter(())
        self._position: Callable[[], int] = lambda: 0
        self._documents: DocumentRows | None = None
        self.summary = Summary("")

    def begin(self, file: BinaryIO, members: Iterator[Member]) -> dict[str, Any]:
        """Read the header. Raises `TransferRefused` when it is none of ours."""
        self._members, self._position = members, file.tell
        first = next(members, None)
        header = first.json() if first is not None and first.name == HEADER else None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise TransferRefused("the file is no export of a devkit, or of a newer one")
        catalogs = header.get("catalogs")
        if (catalogs is not None and not _is_about_catalogs(catalogs)) or not are_owners(header.get("owners", [])):
            raise TransferRefused("the archive is damaged, or is no export of a devkit")
        self.summary.created_at = str(header.get("createdAt"))
        return header

    def open_documents(self, target: Target) -> None:
        """They go to a database. Raises `TransferRefused` when it holds some, or `StoreLocked`."""
        self._documents = DocumentRows(target)
        held = self._documents.held()
        if held:
            raise TransferRefused(f"the database is not empty: it holds {held}; name another DEVKIT_DB_NAME")

    def read_documents(self) -> None:
        """From staging to the database, which waits with them for `store_documents`."""
        assert self._documents is not None  # noqa: S101  opened before
        self._documents.read_in(self.staging)
        bind(self.staging, self._documents.state_id())

    def store_documents(self) -> None:
        """Last of all: files without a document are removed some day, documents without their files are damage."""
        if self._documents is not None:
            self._documents.commit()
            self._documents = None

    def forget_documents(self) -> None:
        """The import did not happen."""
        if self._documents is not None:
            self._documents.close()
            self._documents = None

    def rest(self, catalogs: CatalogWriter | None) -> None:
        """Every other member; returns when all of it was whole."""
        seen: list[str] = []
        member = next(self._members, None)
        while member is not None:
            if not member.name.startswith(f"{CATALOGS}/"):
                self._write(member)
                member = next(self._members, None)
                continue
            table = table_of(member.name)
            if catalogs is None or table in seen:
                raise TransferRefused("the archive holds rows in an order that is not that of an export")
            seen.append(table)
            parts = _Parts(member, self._members, self._count)
            catalogs.copy(table, parts.chunks(table))
            member = parts.following
        self.summary.tables = len(seen)
        _sync(self.staging)

    def _write(self, member: Member) -> None:
        path = self.staging / state_path(member.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError):
            raise TransferRefused(f"the archive holds {member.name[:100]!r} twice") from None
        with os.fdopen(fd, "wb") as file:
            for chunk in member.chunks():
                file.write(chunk)
                self._count(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o600 | member.mode)
        self._look_at_disk(_FILE_BYTES)
        os.utime(path, (member.mtime, member.mtime))
        self.summary.count(path.relative_to(self.staging).parts[0])

    def _count(self, size: int) -> None:
        self.summary.total_bytes += size
        self._look_at_disk(size)
        self._progress(self._position(), self._archive_bytes)

    def _look_at_disk(self, taken: int) -> None:
        self._since_look += taken
        if self._since_look >= _LOOK_AT_DISK_EVERY:
            self._since_look = 0
            disk = os.statvfs(self.staging)
            # Some file systems have no bound of their own for the number of files, and tell 0.
            if disk.f_bavail * disk.f_frsize < _KEEP_FREE or (disk.f_files and disk.f_favail < _KEEP_FREE_FILES):
                raise TransferRefused("the disk is nearly full, so the import was given up")


class _Parts:
    """The members that together are the rows of one table, and the member after them."""

    def __init__(self, first: Member, members: Iterator[Member], count: Callable[[int], None]) -> None:
        self._members = members
        self._count = count
        self.following: Member | None = first

    def chunks(self, table: str) -> Iterator[bytes]:
        """The rows' bytes."""
        number = 0
        while self.following is not None and self.following.name == f"{CATALOGS}/{table}/{number:09d}":
            for chunk in self.following.chunks():
                self._count(len(chunk))
                yield chunk
            number += 1
            self.following = next(self._members, None)


def _is_about_catalogs(value: Any) -> bool:
    migrations = value.get("migrations") if isinstance(value, dict) else None
    columns = value.get("columns") if isinstance(value, dict) else None
    return (
        isinstance(migrations, list)
        and all(isinstance(made, dict) and isinstance(made.get("number"), int) for made in migrations)
        and all(isinstance(made.get("sha256"), str) for made in migrations)
        and isinstance(columns, dict)
    )


def _sync(staging: Path) -> None:
    """Make every folder durable, and those of bundles read-only, as the devkit leaves them."""
    for folder, _, _ in os.walk(staging, topdown=False):
        path = Path(folder)
        relative = path.relative_to(staging).parts
        if relative[:1] == ("postgres",):
            continue
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        if relative[:1] == ("bundles",) and len(relative) >= 3:
            path.chmod(0o555)
