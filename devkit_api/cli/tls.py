"""`tls init`: a certificate for the devkit, from a certificate authority of its own."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import certifi
import click
from rich.markup import escape

from devkit_api.atomic import write_atomic
from devkit_api.cli.show import out, print_json

NAMES = ("localhost", "127.0.0.1", "::1")
# What trusts the devkit and everything else besides; written beside the certificate.
BUNDLE = "ca-bundle.pem"


@click.group()
def tls() -> None:
    """Serve https: some downloads of the SDK insist on it."""


@tls.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("devkit-tls"))
@click.option("--host", "hosts", multiple=True, help="A further name or address the devkit is reached under.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def init(folder: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make a local certificate authority and a certificate in FOLDER, and say how to use them."""
    import trustme

    if (folder / "key.pem").exists():
        raise click.ClickException(f"{folder} holds a key already; remove the folder for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="HLA-Compass devkit", organization_unit_name=socket.gethostname())
    names = dict.fromkeys([*NAMES, socket.gethostname(), *hosts])
    issued = authority.issue_cert(*names)
    files = {
        "key.pem": issued.private_key_pem.bytes(),
        "cert.pem": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        "ca.pem": authority.cert_pem.bytes(),
        BUNDLE: Path(certifi.where()).read_bytes() + b"\n" + authority.cert_pem.bytes(),
    }
    for name, data in files.items():
        write_atomic(folder / name, data)
        # Modules, which may run as another user, must be able to read what to trust; the key is the devkit's alone.
        (folder / name).chmod(0o600 if name == "key.pem" else 0o644)
    # The authority's own key is not kept: nobody can make another certificate that this machine then trusts.
    paths = {name: str((folder / name).resolve()) for name in files}
    if as_json:
        print_json({"names": list(names), **paths})
        return
    out.print(f"[green]Made[/green] a certificate for {escape(', '.join(names))}")
    for line in (
        f"export DEVKIT_TLS_CERT={shlex.quote(paths['cert.pem'])} DEVKIT_TLS_KEY={shlex.quote(paths['key.pem'])}",
        f"export REQUESTS_CA_BUNDLE={shlex.quote(paths[BUNDLE])}   # for the SDK and its CLI",
    ):
        out.print(f"  {escape(line)}", soft_wrap=True)
    out.print("`hla-compass runs download` reads only certifi's list; docs/objects.md says how to have it trust this.")
