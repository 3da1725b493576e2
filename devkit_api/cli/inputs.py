"""`inputs`: local files that runs read as named sources."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.markup import escape
from rich.progress import Progress

from devkit_api.cli.client import Connection
from devkit_api.cli.show import err, out, print_json


@click.group()
def inputs() -> None:
    """Upload local files, and name them as sources of runs."""


@inputs.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def add(files: tuple[Path, ...], as_json: bool) -> None:
    """Upload FILES and print the addresses to name them by."""
    devkit = Connection.find()
    added = [upload(devkit, file, show_progress=not as_json) for file in files]
    if as_json:
        print_json(added)
        return
    for item in added:
        out.print(f"[green]Added[/green] {escape(item['filename'])} ({item['sizeBytes']} bytes)")
        out.print(f"  {escape(item['uri'])}", soft_wrap=True)


@inputs.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def list_inputs(as_json: bool) -> None:
    """List the uploads."""
    found = list(_pages(Connection.find()))
    if as_json:
        print_json(found)
        return
    for item in found:
        # Lines, not a table: an id and an address are there to be copied, whole at any width and through a pipe.
        out.print(
            f"[bold]{item['uploadId']}[/bold]  {escape(item['filename'])} ({item['sizeBytes']} bytes)", soft_wrap=True
        )
        out.print(f"  {escape(item['uri'])}", soft_wrap=True)
    if not found:
        out.print("There are no uploads.")


@inputs.command()
@click.argument("upload_id")
def delete(upload_id: str) -> None:
    """Delete the upload UPLOAD_ID. Runs keep what they were given of it."""
    Connection.find().request("DELETE", f"/v1/devkit/inputs/{quote(upload_id, safe='')}")
    out.print("[green]Deleted.[/green]")


def upload(devkit: Connection, file: Path, *, show_progress: bool) -> dict[str, Any]:
    """Send a file, with a progress bar where there is a terminal."""
    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    with (
        Progress(console=err, disable=not (show_progress and err.is_terminal), transient=True) as bar,
        bar.open(file, "rb", description=escape(file.name)) as body,
    ):
        path = f"/v1/devkit/inputs/{quote(file.name, safe='')}"
        # An iterator is sent in pieces; the file itself would be read whole by some versions of requests.
        pieces = iter(lambda: body.read(1024 * 1024), b"")
        sent: dict[str, Any] = devkit.request("POST", path, data=pieces, headers={"Content-Type": content_type})
    return sent


def sources(devkit: Connection, named: tuple[str, ...], *, show_progress: bool) -> list[dict[str, str]]:
    """`NAME=FILE` or `NAME=s3://…` as the sources of a data context; files are uploaded."""
    found = []
    for text in named:
        name, divider, value = text.partition("=")
        if not divider or not value:
            raise click.ClickException(f"{text!r} is not NAME=FILE")
        if "://" not in value:
            if not Path(value).is_file():
                raise click.ClickException(f"{value} is not a file")
            value = upload(devkit, Path(value), show_progress=show_progress)["uri"]
        found.append({"name": name, "uri": value})
    return found


def _pages(devkit: Connection) -> Iterator[dict[str, Any]]:
    token: str | None = None
    while True:
        page = devkit.request("GET", "/v1/devkit/inputs", params={"nextToken": token} if token else {})
        yield from page["items"]
        token = page["nextToken"]
        if token is None:
            return
