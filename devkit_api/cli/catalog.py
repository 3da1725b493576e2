"""`catalog`: make data to work with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from psycopg2 import errors
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from devkit_api.catalogs.generate import Size, generate
from devkit_api.catalogs.writer import CatalogSpec
from devkit_api.cli.show import err, out
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.lifetime import external_target, prepare
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target
from devkit_api.settings import Settings, load_settings
from devkit_api.state.json_files import JsonFileStore


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
    with connect(target) as connection, Progress(*columns, console=err) as bar:
        task = bar.add_task("peptides", total=size.peptides)
        try:
            writer = generate(connection, spec, size, lambda done: bar.update(task, completed=done))
        except errors.UniqueViolation:
            raise click.ClickException(
                f"{spec.provider}/{spec.key} has version {size.label} already; use another --seed"
            ) from None
        except errors.CheckViolation:
            raise click.ClickException(
                "--provider and --catalog take lower-case letters, digits, '.', '_', '-'"
            ) from None
    out.print(f"{spec.provider}/{spec.key} is at version {size.label} ({writer.version_id})")


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
    store = JsonFileStore(settings.state_dir.resolve())
    await store.open()  # the lock on the state directory: no devkit starts in the middle
    try:
        await server.start()
        try:
            yield server.target
        finally:
            await server.stop()
    finally:
        await store.close()
