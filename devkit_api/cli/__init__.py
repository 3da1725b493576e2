"""The command line. `serve` is what happens without a command."""

from __future__ import annotations

import sys

import click

from devkit_api import __version__
from devkit_api.cli.access import keys, users
from devkit_api.cli.catalog import catalog
from devkit_api.cli.client import DevkitUnreachable, NoCredentials, NotADevkit, RequestFailed, RunOutOfSight
from devkit_api.cli.files import files
from devkit_api.cli.health import health
from devkit_api.cli.inputs import inputs
from devkit_api.cli.local import doctor, env, token
from devkit_api.cli.remote import register, reset, run
from devkit_api.cli.serve import serve
from devkit_api.cli.show import print_out_of_sight, print_problems, print_refusal
from devkit_api.cli.templates import lock, new
from devkit_api.cli.tls import tls
from devkit_api.cli.transfer import export_command, import_command
from devkit_api.settings import SettingsError
from devkit_api.state import StateError, StoreLocked


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hla-compass-devkit")
@click.pass_context
def cli(context: click.Context) -> None:
    """The HLA-Compass platform on your own machine."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


_COMMANDS = (
    serve, env, token, doctor, health, keys, users, new, lock, register, run, files, inputs, catalog, tls,
    export_command, import_command, reset,
)  # fmt: skip
for command in _COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: errors become advice and an exit code, never a traceback."""
    try:
        cli()
    except SettingsError as exc:
        print_problems(exc.problems)
        sys.exit(1)
    except StoreLocked as exc:
        click.echo(f"Error: {exc}. Stop the other devkit, or set DEVKIT_STATE_DIR to another directory.", err=True)
        sys.exit(1)
    except StateError as exc:
        click.echo(f"Error: the state directory cannot be used: {exc}.", err=True)
        sys.exit(1)
    except DevkitUnreachable as exc:
        click.echo(f"Error: no devkit answers at {exc.endpoint}. {_advice(exc)}", err=True)
        sys.exit(1)
    except RunOutOfSight as exc:
        print_out_of_sight(exc)
        sys.exit(1)
    except NotADevkit as exc:
        click.echo(f"Error: what answers at {exc.endpoint} is not a devkit; nothing was sent to it.", err=True)
        sys.exit(1)
    except NoCredentials as exc:
        advice = "start one here (python -m devkit_api), or set HLA_API_ENDPOINT and HLA_API_KEY"
        click.echo(f"Error: there is no devkit in {exc.state_dir}: {advice}.", err=True)
        sys.exit(1)
    except RequestFailed as exc:
        print_refusal(exc)
        sys.exit(1)


def _advice(exc: DevkitUnreachable) -> str:
    if not exc.is_from_variables:
        return "Start one: python -m devkit_api"
    return (
        "HLA_API_ENDPOINT in this shell names it. Start it again, or leave it: unset HLA_API_ENDPOINT HLA_API_KEY, or\n"
        'for the devkit of this directory: eval "$(python -m devkit_api env)"'
    )
