"""`serve`: start the devkit."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click
from rich.markup import escape

from devkit_api.atomic import write_atomic
from devkit_api.cli.show import err, out
from devkit_api.importing import for_good
from devkit_api.logs import configure_logging
from devkit_api.public_address import PublicAddress
from devkit_api.security.credentials import load_credentials
from devkit_api.settings import Settings, load_settings, unknown_variables


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option(
    "--modules", "modules_dir", type=click.Path(path_type=Path), help="Directory to watch; each subfolder is a module."
)
@click.option("--state", "state_dir", type=click.Path(path_type=Path), help="Directory the devkit keeps its state in.")
@click.option(
    "--on-exit-export",
    "export_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="When the devkit stops, export it to this file, replacing it.",
)
@click.option("--prewarm", is_flag=True, help="Import modules when they are registered, ahead of their first run.")
@click.option(
    "--reload", is_flag=True, help="Restart the server whenever its own code changes. For work on the devkit."
)
@click.option("--log-format", type=click.Choice(["console", "json"]), help="Log lines for people or machines.")
def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    modules_dir: Path | None = None,
    state_dir: Path | None = None,
    export_file: Path | None = None,
    log_format: str | None = None,
    prewarm: bool = False,
    reload: bool = False,
) -> None:
    """Start the devkit and serve until Ctrl-C."""
    if reload:
        serve_again_and_again()
        return
    overrides = {
        "host": host,
        "port": port,
        "modules_dir": modules_dir,
        "state_dir": state_dir,
        "log_format": log_format,
        "prewarm": True if prewarm else None,
    }
    settings = load_settings(os.environ, overrides)
    configure_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        err.print(f"[yellow]Warning[/yellow] {escape(name)} is not a setting of the devkit; is it misspelt?")
    with for_good():
        from devkit_api.server import serve as run_server

    if export_file is not None:
        _check_export(export_file)
    run_server(settings, lambda address: _say_ready(settings, address), _say_waiting)
    if export_file is not None:
        from devkit_api.cli.transfer import export_at_exit

        export_at_exit(settings, export_file)


def _check_export(file: Path) -> None:
    """Better to hear now that it cannot be written than when there is work to lose."""
    folder = file.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise click.ClickException(f"{folder} is not a folder that can be written to; the export would be lost")


def serve_again_and_again() -> None:
    """The same command without `--reload` as a process of its own, started anew when a file of the devkit changes."""
    from watchfiles import PythonFilter, run_process

    import devkit_api

    own = Path(devkit_api.__file__).parent
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    command = shlex.join([sys.executable, "-m", "devkit_api", *arguments])
    err.print(f"[dim]Watching {escape(str(own))} for changes.[/dim]")
    run_process(
        own, target=command, target_type="command", watch_filter=PythonFilter(), sigint_timeout=15,
        callback=lambda changes: err.print(f"[dim]{len(changes)} changed; starting again.[/dim]"),
    )  # fmt: skip


def _say_ready(settings: Settings, address: PublicAddress) -> None:
    # For commands beside the server, which need no proxy to reach it.
    write_atomic(settings.state_dir / "endpoint", address.own_url.encode())
    # Programs wait for this line: no colours, which some shells ask for everywhere, and not folded.
    click.echo(f"HLA-Compass devkit is ready at {address.base_url}")
    if settings.modules_dir is not None:
        out.print(f"Watching {escape(str(settings.modules_dir))} for modules.")
    out.print("Point the hla-compass SDK and CLI at it:")
    for line in export_lines(settings, address.base_url):
        out.print(f"  {escape(line)}", soft_wrap=True)


def _say_waiting(owner: str) -> None:
    out.print(f"Standing by: {escape(owner)}. This one takes over when that one ends.", soft_wrap=True)


def export_lines(settings: Settings, address: str) -> list[str]:
    """The `export` lines for the SDK: address, key, and what to trust when the certificate is one of `tls init`.

    Raises `FileNotFoundError` when there are no credentials yet.
    """
    credentials = load_credentials(settings, create=False)
    if credentials is None:
        raise FileNotFoundError(settings.state_dir)
    values = {"HLA_API_ENDPOINT": address, "HLA_API_KEY": credentials.api_key}
    if settings.ca_bundle is not None:
        values["REQUESTS_CA_BUNDLE"] = str(settings.ca_bundle)
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
