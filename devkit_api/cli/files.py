"""`files`: what a run saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from devkit_api.cli.client import Connection
from devkit_api.cli.show import err, out, print_json

_CHUNK = 256 * 1024


@click.command()
@click.argument("run_id")
@click.option("--save", "folder", type=click.Path(file_okay=False, path_type=Path), help="Copy the files to here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def files(run_id: str, folder: Path | None, as_json: bool) -> None:
    """List the files RUN_ID saved, and copy them when asked to. Existing files are not overwritten.

    In a terminal as a table; else a file a line: name, bytes and type, with tabs between.
    """
    found = list(_pages(Connection.find(), run_id))
    if folder is not None:
        for file in found:
            _save(file, folder)
    if as_json:
        print_json(found)
        return
    if not found:
        err.print("The run saved no files.")
        return
    _print_list(found)
    if folder is not None:
        err.print(f"[green]Saved[/green] in {escape(str(folder))}", soft_wrap=True)


def _print_list(found: list[dict[str, Any]]) -> None:
    """A table for people. Where nobody looks on, a file a line, with tabs: names stay whole, however long."""
    if not out.is_terminal:
        for file in found:
            click.echo("\t".join((file["name"], str(file["sizeBytes"]), file["contentType"])))
        return
    table = Table()
    for heading in ("File", "Bytes", "Type"):
        table.add_column(heading, overflow="fold")
    for file in found:
        table.add_row(escape(file["name"]), str(file["sizeBytes"]), escape(file["contentType"]))
    out.print(table)


def _pages(devkit: Connection, run_id: str) -> Iterator[dict[str, Any]]:
    token: str | None = None
    while True:
        query = {"nextToken": token} if token else {}
        page = devkit.request("GET", f"/v1/api/module-runs/{run_id}/files", params=query)
        yield from page["files"]
        token = page["nextToken"]
        if token is None:
            return


def _save(file: dict[str, Any], folder: Path) -> None:
    import requests

    target = (folder / file["name"]).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise click.ClickException(f"{file['name']!r} would be saved outside {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with requests.get(file["url"], stream=True, timeout=60) as answer, target.open("xb") as copy:
            answer.raise_for_status()
            for chunk in answer.iter_content(_CHUNK):
                copy.write(chunk)
    except FileExistsError:
        raise click.ClickException(f"{target} exists already; name another folder") from None
    except requests.RequestException as exc:
        target.unlink(missing_ok=True)
        raise click.ClickException(f"{file['name']} could not be read ({type(exc).__name__})") from None
