"""Export: everything a stopped devkit holds, into one file that appears when it is complete."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import psycopg2
from aiofiles.os import wrap

from devkit_api import __version__
from devkit_api.atomic import fsync_folder
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.failures import first_line
from devkit_api.database.lifetime import external_target
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.ids import utc_now
from devkit_api.objects.protocol import ObjectStore
from devkit_api.objects.s3_owner import read_owners
from devkit_api.objects.uploads.models import COLLECTION, COMPLETING, UPLOADING
from devkit_api.settings import Settings
from devkit_api.state.binding import check_database, check_files
from devkit_api.state.folder import FolderLock
from devkit_api.state.names import COLLECTIONS
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.catalogs import CatalogReader, Table
from devkit_api.transfer.commit import STAGING, discard, settle
from devkit_api.transfer.documents import DocumentRows
from devkit_api.transfer.layout import CATALOGS, FORMAT, HEADER, STATE, content, unknown
from devkit_api.transfer.objects import OBJECTS, Await, bucket_of, bytes_in, document, pack, waiting

# Told how many bytes are done, and of how many.
Progress = Callable[[int, int], None]


@attrs.define
class Summary:
    """What went through: documents per collection, files, rows' bytes, bytes in all."""

    created_at: str
    documents: dict[str, int] = attrs.Factory(dict)
    files: int = 0
    tables: int = 0
    total_bytes: int = 0
    left_out: list[str] = attrs.Factory(list)

    def count(self, top: str) -> None:
        """One more file of a top-level entry."""
        if top in COLLECTIONS:
            self.documents[top] = self.documents.get(top, 0) + 1
        else:
            self.files += 1


async def export(settings: Settings, target: Path, progress: Progress, *, replace: bool = False) -> Summary:
    """Write `target`. Raises `TransferRefused`, `StoreLocked` while a devkit runs, or `OSError`."""
    state = settings.state_dir.resolve()
    if not state.is_dir():
        raise TransferRefused(f"there is no devkit in {state}")
    if target.is_dir() or (target.exists() and not replace):
        raise TransferRefused(f"{target} exists already; choose another name, or --replace it")
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    async with (
        owned(settings) as state,
        bucket_of(settings) as bucket,
        _database(settings, state) as database,
        _documents(settings, state, database) as documents,
    ):
        try:
            catalogs = database if settings.catalogs else None
            source = _Source(state, documents, catalogs, bucket, waiting(asyncio.get_running_loop()))
            source.bucket_bytes = await bytes_in(bucket, documents) if bucket else 0
            summary = await _write(source, temporary, progress)
            temporary.replace(target)
            fsync_folder(target.absolute().parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return summary


@asynccontextmanager
async def owned(settings: Settings) -> AsyncIterator[Path]:
    """The state directory, its lock ours: no devkit starts meanwhile. Raises `SettingsError` for another backend."""
    state = settings.state_dir.resolve()
    lock = FolderLock(state)
    await lock.take()
    try:
        settle(state)
        (check_files if settings.state_backend == "json" else check_database)(state)
        yield state
    finally:
        lock.release()


@asynccontextmanager
async def _database(settings: Settings, state: Path) -> AsyncIterator[Target | None]:
    is_needed = settings.catalogs or settings.state_backend == "postgres"
    if is_needed and settings.db_host:
        yield external_target(settings)
        return
    if not is_needed or not (state / "postgres" / "data").is_dir():
        yield None
        return
    server = EmbeddedPostgres(state / "postgres")
    await server.start()
    try:
        yield server.target
    finally:
        await server.stop()


@asynccontextmanager
async def _documents(settings: Settings, state: Path, database: Target | None) -> AsyncIterator[Path]:
    """Where the documents are as files: in the state directory, or in a copy of those in the database."""
    if settings.state_backend == "json" or database is None:
        yield state
        return
    folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=state))  # the next start removes it if we cannot
    rows: DocumentRows | None = None
    try:
        rows = await asyncio.to_thread(DocumentRows, database)
        await asyncio.to_thread(rows.write_out, state, folder)
        yield folder
    except psycopg2.Error as exc:
        raise TransferRefused(f"the database cannot be read: {first_line(exc)}") from None
    finally:
        if rows is not None:
            rows.close()
        discard(folder)


@attrs.define
class _Source:
    """Everything an export is made of. `wait` has the event loop do something for a thread."""

    state: Path
    documents: Path
    database: Target | None
    bucket: ObjectStore | None
    wait: Await[Any]
    bucket_bytes: int = 0

    def place(self, path: Path) -> Path:
        """Where it belongs in a state directory."""
        return path.relative_to(self.documents if path.is_relative_to(self.documents) else self.state)


@wrap
def _write(source: _Source, temporary: Path, progress: Progress) -> Summary:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        summary = _fill(file, source, progress)
        file.flush()
        os.fsync(file.fileno())
    return summary


def _fill(file: BinaryIO, source: _Source, progress: Progress) -> Summary:
    if source.database is None:
        return _fill_from(file, source, None, progress)
    try:
        with connect(source.database) as connection:
            reader = CatalogReader(connection)
            return _fill_from(file, source, reader if reader.is_there else None, progress)
    except psycopg2.Error as exc:
        raise TransferRefused(f"the database cannot be read: {first_line(exc)}") from None


def _fill_from(file: BinaryIO, source: _Source, catalogs: CatalogReader | None, progress: Progress) -> Summary:
    state = source.state
    summary = Summary(utc_now(), left_out=unknown(state))
    tables = catalogs.tables() if catalogs else []
    paths = [path for path in content(state, source.documents) if _goes_along(path, source)]
    total = sum(path.stat().st_size for path in paths) + sum(table.about_bytes for table in tables)
    total += source.bucket_bytes
    writer = Writer(file)
    header: dict[str, Any] = {"format": FORMAT, "devkit": __version__, "createdAt": summary.created_at}
    if source.bucket is not None:
        header["owners"] = list(read_owners(state))
    if catalogs:
        columns = {table.full_name: catalogs.columns(table) for table in tables}
        header["catalogs"] = {"migrations": catalogs.migrations(), "columns": columns}
    writer.add_json(HEADER, header)

    def count(size: int) -> None:
        summary.total_bytes += size
        progress(min(summary.total_bytes, total), total)

    for path in paths:
        relative = source.place(path)
        size = writer.add_file(f"{STATE}/{relative.as_posix()}", path)
        summary.count(relative.parts[0])
        count(size)
    if source.bucket is not None:

        def count_object(size: int) -> None:
            summary.files += 2  # the bytes, and what is known of them
            count(size)

        pack(source.bucket, source.documents, writer, source.wait, count_object)
    for table in tables:
        assert catalogs is not None  # noqa: S101  there are tables
        summary.tables += _copy(catalogs, table, writer, count)
    writer.finish()
    progress(total, total)
    return summary


def _goes_along(path: Path, source: _Source) -> bool:
    top = source.place(path).parts[0]
    # The parts of an upload stay, and so does what is known of one that still waits for them.
    unfinished = top == COLLECTION and document(path).get("status") in {UPLOADING, COMPLETING}
    return not unfinished and (top != OBJECTS or source.bucket is None)


def _copy(catalogs: CatalogReader, table: Table, writer: Writer, count: Callable[[int], None]) -> bool:
    """Add the rows of a table; whether it has any."""
    part = 0

    def add(data: bytes) -> None:
        nonlocal part
        writer.add_bytes(f"{CATALOGS}/{table.full_name}/{part:09d}", data)
        part += 1
        count(len(data))

    catalogs.copy(table, add)
    return part > 0
