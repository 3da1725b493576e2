"""`health`: is the devkit of this directory, or of an address, ready? Containers ask it: no curl needed."""

from __future__ import annotations

import os
import sys

import click

from devkit_api.cli.client import local_endpoint
from devkit_api.settings import load_settings


@click.command()
@click.option("--url", help="Base address; what this directory's settings say without it.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, help="Seconds to wait.")
def health(url: str | None, timeout: float) -> None:
    """Ask whether the devkit is ready; the exit code is 0 when it is, else 1."""
    import requests

    base = (url or local_endpoint(load_settings(os.environ))).rstrip("/")
    try:
        answer = requests.get(f"{base}/v1/system/ready", timeout=timeout, allow_redirects=False)
        body = answer.json()
    except (requests.RequestException, ValueError):
        click.echo(f"no devkit answers at {base}", err=True)
        sys.exit(1)
    if answer.status_code == 200 and isinstance(body, dict) and body.get("status") == "ready":
        click.echo("ready")
        return
    missing = body.get("missing") if isinstance(body, dict) else None
    click.echo(f"not ready: {missing or answer.status_code}", err=True)
    sys.exit(1)
