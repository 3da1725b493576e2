"""`serve`: start the devkit."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
from rich.markup import escape

from devkit_api.atomic import write_atomic
from devkit_api.cli.show import err, out
from devkit_api.logs import configure_logging
from devkit_api.security.credentials import load_credentials
from devkit_api.settings import Settings, load_settings, unknown_variables


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option(
    "--modules", "modules_dir", type=click.Path(path_type=Path), help="Directory to watch; each subfolder is a module."
)
@click.option("--state", "state_dir", type=click.Path(path_type=Path), help="Directory the devkit keeps its state in.")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="Log lines for people or machines.")
def serve(
    host: str | None = None,
    port: int | None = None,
    modules_dir: Path | None = None,
    state_dir: Path | None = None,
    log_format: str | None = None,
) -> None:
    """Start the devkit and serve until Ctrl-C."""
    overrides = {
        "host": host,
        "port": port,
        "modules_dir": modules_dir,
        "state_dir": state_dir,
        "log_format": log_format,
    }
    settings = load_settings(os.environ, overrides)
    configure_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        err.print(f"[yellow]Warning[/yellow] {name} is not a setting of the devkit; is it misspelt?")
    from devkit_api.server import serve as run_server

    run_server(settings, lambda address: _say_ready(settings, address))


def _say_ready(settings: Settings, address: str) -> None:
    write_atomic(settings.state_dir / "endpoint", address.encode())
    out.print(f"HLA-Compass devkit is ready at [bold]{address}[/bold]")
    if settings.modules_dir is not None:
        out.print(f"Watching {settings.modules_dir} for modules.")
    out.print("Point the hla-compass SDK and CLI at it:")
    for line in export_lines(settings, address):
        out.print(f"  {escape(line)}", soft_wrap=True)


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
