"""Export: everything a stopped devkit holds, into one file that appears when it is complete."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from aiofiles.os import wrap

from devkit_api import __version__
from devkit_api.atomic import fsync_folder
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.ids import utc_now
from devkit_api.settings import Settings
from devkit_api.state.json_files import JsonFileStore
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.catalogs import CatalogReader
from devkit_api.transfer.commit import settle
from devkit_api.transfer.layout import CATALOGS, FORMAT, HEADER, STATE, content, unknown

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
        if top in {"modules", "runs", "plans", "publications", "deployments", "uploads"}:
            self.documents[top] = self.documents.get(top, 0) + 1
        else:
            self.files += 1


def refuse_elsewhere(settings: Settings) -> None:
    """What lies outside the state directory has tools of its own."""
    if settings.catalogs and settings.db_host:
        raise TransferRefused(
            "the catalogs are in the PostgreSQL of DEVKIT_DB_HOST: move them with pg_dump, "
            "and set DEVKIT_CATALOGS=off for this command to move the rest"
        )
    if settings.s3_endpoint:
        raise TransferRefused(
            "the files of runs are in the bucket of DEVKIT_S3_ENDPOINT: copy the bucket with its own tools, "
            "and unset DEVKIT_S3_ENDPOINT for this command to move the rest"
        )


async def export(settings: Settings, target: Path, progress: Progress, *, replace: bool = False) -> Summary:
    """Write `target`. Raises `TransferRefused`, `StoreLocked` while a devkit runs, or `OSError`."""
    refuse_elsewhere(settings)
    state = settings.state_dir.resolve()
    if not state.is_dir():
        raise TransferRefused(f"there is no devkit in {state}")
    if target.is_dir() or (target.exists() and not replace):
        raise TransferRefused(f"{target} exists already; choose another name, or --replace it")
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    async with owned(state), _database(settings, state) as database:
        try:
            summary = await _write(state, database, temporary, progress)
            temporary.replace(target)
            fsync_folder(target.absolute().parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return summary


@asynccontextmanager
async def owned(state: Path) -> AsyncIterator[None]:
    """The lock on the state directory: no devkit starts in the middle."""
    store = JsonFileStore(state)
    await store.open()
    try:
        settle(state)
        yield
    finally:
        await store.close()


@asynccontextmanager
async def _database(settings: Settings, state: Path) -> AsyncIterator[Target | None]:
    if not settings.catalogs or not (state / "postgres" / "data").is_dir():
        yield None
        return
    server = EmbeddedPostgres(state / "postgres")
    await server.start()
    try:
        yield server.target
    finally:
        await server.stop()


@wrap
def _write(state: Path, database: Target | None, temporary: Path, progress: Progress) -> Summary:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        summary = _fill(file, state, database, progress)
        file.flush()
        os.fsync(file.fileno())
    return summary


def _fill(file: BinaryIO, state: Path, database: Target | None, progress: Progress) -> Summary:
    if database is None:
        return _fill_from(file, state, None, progress)
    with connect(database) as connection:
        return _fill_from(file, state, CatalogReader(connection), progress)


def _fill_from(file: BinaryIO, state: Path, catalogs: CatalogReader | None, progress: Progress) -> Summary:
    summary = Summary(utc_now(), left_out=unknown(state))
    tables = catalogs.tables() if catalogs else []
    total = sum(path.stat().st_size for path in content(state)) + sum(table.about_bytes for table in tables)
    writer = Writer(file)
    header: dict[str, Any] = {"format": FORMAT, "devkit": __version__, "createdAt": summary.created_at}
    if catalogs:
        columns = {table.full_name: catalogs.columns(table) for table in tables}
        header["catalogs"] = {"migrations": catalogs.migrations(), "columns": columns}
    writer.add_json(HEADER, header)
    for path in content(state):
        relative = path.relative_to(state)
        summary.total_bytes += writer.add_file(f"{STATE}/{relative.as_posix()}", path)
        summary.count(relative.parts[0])
        progress(summary.total_bytes, total)
    for table in tables:
        part = 0

        def add(data: bytes, name: str = table.full_name) -> None:
            nonlocal part
            writer.add_bytes(f"{CATALOGS}/{name}/{part:09d}", data)
            part += 1
            summary.total_bytes += len(data)
            progress(min(summary.total_bytes, total), total)

        assert catalogs is not None  # noqa: S101  there are tables
        catalogs.copy(table, add)
        summary.tables += 1
    writer.finish()
    progress(total, total)
    return summary
