"""`export` and `import`: a whole devkit as one file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from devkit_api.cli.show import err, out, print_json
from devkit_api.settings import Settings, load_settings
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.dump import Progress as Update
from devkit_api.transfer.dump import Summary, export
from devkit_api.transfer.load import MOST_BYTES, load

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
@_JSON
def export_command(file: Path, replace: bool, as_json: bool) -> None:
    """Write everything of the stopped devkit into FILE (.tar.gz): modules, runs and their files, catalogs.

    Keys, users, passwords and signing secrets are not part of it.
    """
    settings = load_settings(os.environ)
    summary = _run("exporting", lambda bar: export(settings, file, bar, replace=replace), quiet=as_json)
    show(summary, "Exported", file, as_json)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--max-bytes", type=click.IntRange(1), default=MOST_BYTES, show_default=True, help="Most bytes when unpacked."
)
@_JSON
def import_command(file: Path, max_bytes: int, as_json: bool) -> None:
    """Bring FILE, made by `export`, into an empty devkit: all of it, or nothing."""
    settings = load_settings(os.environ)
    summary = _run("importing", lambda bar: load(settings, file, bar, most_bytes=max_bytes), quiet=as_json)
    show(summary, "Imported", file, as_json)


def export_at_exit(settings: Settings, file: Path) -> None:
    """What `serve --on-exit-export` does once the server has stopped."""
    summary = _run("exporting", lambda bar: export(settings, file, bar, replace=True), quiet=False)
    show(summary, "Exported", file, as_json=False)


def show(summary: Summary, verb: str, file: Path, as_json: bool) -> None:
    """Tell what went through."""
    if as_json:
        print_json({"file": str(file), "fileBytes": file.stat().st_size, **attrs.asdict(summary)})
        return
    documents = ", ".join(f"{count} {name}" for name, count in sorted(summary.documents.items())) or "no documents"
    tables = f", {summary.tables} tables of catalogs" if summary.tables else ""
    out.print(f"[green]{verb}[/green] {documents}, {summary.files} files{tables}: {escape(str(file))}", soft_wrap=True)
    for name in summary.left_out:
        err.print(f"[yellow]Left out[/yellow] {escape(name)}: the devkit does not know it", soft_wrap=True)


def _run(verb: str, work: Callable[[Update], Coroutine[Any, Any, Summary]], *, quiet: bool) -> Summary:
    try:
        with _bar(verb, quiet) as update:
            return asyncio.run(work(update))
    except TransferRefused as exc:
        raise click.ClickException(str(exc)) from None
    except OSError as exc:
        raise click.ClickException(f"{exc.filename or 'the file'}: {os.strerror(exc.errno or 0)}") from None


@contextmanager
def _bar(verb: str, quiet: bool) -> Iterator[Update]:
    if quiet or not err.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
