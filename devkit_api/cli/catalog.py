"""`catalog`: make data to work with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click
from psycopg2 import errors
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from devkit_api.catalogs.generate import Size, generate
from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER
from devkit_api.catalogs.imports.load import ImportPlan, Loaded, Source, load
from devkit_api.catalogs.imports.targets import TARGETS
from devkit_api.catalogs.writer import CatalogSpec
from devkit_api.cli.show import err, out, print_json
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.lifetime import external_target, prepare
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.errors import CatalogReadOnly, DevkitError, VersionExists
from devkit_api.settings import Settings, load_settings
from devkit_api.state.folder import FolderLock


@click.group()
def catalog() -> None:
    """Make data catalogs."""


@catalog.command("generate")
@click.option("--peptides", type=click.IntRange(1, 10_000_000), default=10_000, show_default=True)
@click.option("--samples", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True, help="Same seed, same rows.")
@click.option("--provider", default="devkit", show_default=True, help="Provider key of the catalog.")
@click.option("--catalog", "key", default="synthetic", show_default=True, help="Key of the catalog.")
def generate_command(peptides: int, samples: int, seed: int, provider: str, key: str) -> None:
    """Write a synthetic catalog version, whether the devkit runs or not."""
    size = Size(peptides, samples, seed)
    description = "SYNTHETIC DATA: random proteins, peptides, samples and intensities. Nothing of it was measured."
    spec = CatalogSpec(provider, key, f"Synthetic: {key}", description, is_demo=True)
    asyncio.run(_generate(load_settings(os.environ), spec, size))


async def _generate(settings: Settings, spec: CatalogSpec, size: Size) -> None:
    async with _reachable(settings) as target:
        await prepare(target)
        await asyncio.to_thread(_write, target, spec, size)


def _write(target: Target, spec: CatalogSpec, size: Size) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with connect(target) as connection, Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("peptides", total=size.peptides)
        try:
            writer = generate(connection, spec, size, lambda done: bar.update(task, completed=done))
        except VersionExists as exc:
            raise click.ClickException(f"{exc.message} Use another --seed") from None
        except errors.CheckViolation:
            raise click.ClickException(
                "--provider and --catalog take lower-case letters, digits, '.', '_', '-'"
            ) from None
    out.print(f"{spec.provider}/{spec.key} is at version {size.label} ({writer.version_id})", soft_wrap=True)


@catalog.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--table",
    type=click.Choice(list(TARGETS)),
    default="sample_peptide_mappings",
    show_default=True,
    help="What a row of the file is.",
)
@click.option("--provider", default="local", show_default=True, help="Provider key of the catalog.")
@click.option("--catalog", "key", required=True, help="Key of the catalog; made if it is not there.")
@click.option("--label", help="Label of the new version.  [default: import-<time>]")
@click.option("--append", is_flag=True, help="Continue the current version instead of standing alone.")
@click.option(
    "--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Which column gives a field, where names differ."
)
@click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="The same value for all rows.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, and no progress bar.")
def import_command(
    file: Path, *, table: str, provider: str, key: str, label: str | None, append: bool, columns: tuple[str, ...],
    constants: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Load a CSV, TSV or Parquet FILE as a new version of a catalog, whole or not at all."""
    source = Source(file, file.name, table, _pairs("--map", columns), _pairs("--set", constants))
    made = label or f"import-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    description = "Imported from files on this machine."
    plan = ImportPlan(CatalogSpec(provider, key, key, description), made, [source], append)
    try:
        if (provider, key) == (DEMO_PROVIDER, DEMO_CATALOG):
            raise CatalogReadOnly(catalog=f"{provider}/{key}", reason="it is the demo catalog")
        loaded = asyncio.run(_import(load_settings(os.environ), plan, as_json))
    except DevkitError as exc:
        _refuse(exc, as_json)
    _show_loaded(plan, loaded, as_json)


async def _import(settings: Settings, plan: ImportPlan, quiet: bool) -> Loaded:
    async with _reachable(settings) as target:
        await prepare(target)
        return await asyncio.to_thread(_load, target, plan, quiet)


def _load(target: Target, plan: ImportPlan, quiet: bool) -> Loaded:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), DownloadColumn())
    hidden = quiet or not err.is_terminal
    with connect(target) as connection, Progress(*columns, console=err, disable=hidden, transient=True) as bar:
        task = bar.add_task("reading", total=sum(source.path.stat().st_size for source in plan.sources))
        try:
            return load(connection, plan, _Bar(bar, task))
        except errors.CheckViolation:
            raise click.ClickException(
                "--provider and --catalog take lower-case letters, digits, '.', '_', '-'; --label letters as well"
            ) from None


class _Bar:
    """The progress bar, as an import's `Watch`."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def read(self, source: int, read_bytes: int, rows: int) -> None:
        self._bar.update(self._task, completed=read_bytes, description=f"reading, {rows} rows")

    def writing(self) -> None:
        # How long the database takes is not known beforehand.
        self._bar.update(self._task, total=None, description="writing")

    def before_commit(self, cursor: Any, version_id: str) -> None:
        self._bar.update(self._task, total=1, completed=1, description="done")


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise click.UsageError(f"{option} takes FIELD=…, not {text!r}")
        if name in found:
            raise click.UsageError(f"{option} names {name} twice")
        found[name] = value
    return found


def _refuse(exc: DevkitError, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"imported": False, "error": {"code": exc.code, "message": exc.message, "details": exc.details}})
        raise SystemExit(1)
    problems = exc.details.get("problems", {"count": 0, "shown": []})
    for found in problems["shown"]:
        value = f" {found['value']!r}" if "value" in found else ""
        place = f"{found['file']}, row {found['row']}, {found['field']}"
        err.print(f"{escape(place)}[dim]{escape(value)}[/dim]: {escape(found['reason'])}", soft_wrap=True)
    if problems["count"] > len(problems["shown"]):
        err.print(f"… and {problems['count'] - len(problems['shown'])} more")
    raise click.ClickException(f"{exc.message} {exc.advice}" if not problems["shown"] else exc.message)


def _show_loaded(plan: ImportPlan, loaded: Loaded, as_json: bool) -> None:
    name = f"{plan.spec.provider}/{plan.spec.key}"
    if as_json:
        version = {"id": loaded.version_id, "versionLabel": loaded.label, "rowCounts": loaded.row_counts}
        print_json({"imported": True, "catalog": name, "version": version, **loaded.report.view()})
        return
    for source in loaded.report.sources:
        if source.ignored:
            err.print(f"not used: {escape(', '.join(source.ignored))}", soft_wrap=True)
    out.print(f"{name} is at version {loaded.label} ({loaded.version_id}), {loaded.report.rows} rows read")


@asynccontextmanager
async def _reachable(settings: Settings) -> AsyncIterator[Target]:
    """The database of a running devkit, or the embedded one started for this command."""
    if settings.db_host:
        yield external_target(settings)
        return
    server = EmbeddedPostgres(settings.state_dir / "postgres")
    if server.is_running:
        yield server.target
        return
    lock = FolderLock(settings.state_dir.resolve())
    await lock.take()  # no devkit starts in the middle
    try:
        await server.start()
        try:
            yield server.target
        finally:
            await server.stop()
    finally:
        lock.release()
