"""The command line. `serve` is what happens without a command."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import cast

import click

from devkit_api import __version__
from devkit_api.cli.client import DevkitUnreachable, NoCredentials, NotADevkit, RequestFailed, RunOutOfSight
from devkit_api.importing import for_good
from devkit_api.settings import SettingsError
from devkit_api.state import OwnershipLost, StateError, StoreLocked

# Where each command is, below this package.
_COMMANDS = {
    "serve": "serve:serve",
    "env": "local:env",
    "token": "local:token",
    "doctor": "local:doctor",
    "health": "health:health",
    "keys": "access:keys",
    "users": "access:users",
    "new": "templates:new",
    "lock": "templates:lock",
    "register": "remote:register",
    "run": "remote:run",
    "files": "files:files",
    "inputs": "inputs:inputs",
    "catalog": "catalog:catalog",
    "tls": "tls:tls",
    "export": "transfer:export_command",
    "import": "transfer:import_command",
    "reset": "remote:reset",
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for: a container asks for its health every ten seconds, and
    need not read what imports catalogs.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name].partition(":")
        with for_good():
            return cast("click.Command", getattr(import_module(f"{__name__}.{module}"), attribute))


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hla-compass-devkit")
@click.pass_context
def cli(context: click.Context) -> None:
    """The HLA-Compass platform on your own machine."""
    if context.invoked_subcommand is None:
        with for_good():
            from devkit_api.cli.serve import serve

        context.invoke(serve)


def main() -> None:
    """Entry point: errors become advice and an exit code, never a traceback."""
    try:
        cli()
    except SettingsError as exc:
        from devkit_api.cli.show import print_problems

        print_problems(exc.problems)
        sys.exit(1)
    except StoreLocked as exc:
        click.echo(f"Error: {exc}. {exc.advice}.", err=True)
        sys.exit(1)
    except OwnershipLost as exc:
        click.echo(f"Error: {exc}. This devkit has stopped, so that there is one truth.", err=True)
        sys.exit(1)
    except StateError as exc:
        click.echo(f"Error: the state cannot be used: {exc}.", err=True)
        sys.exit(1)
    except DevkitUnreachable as exc:
        click.echo(f"Error: no devkit answers at {exc.endpoint}. {_advice(exc)}", err=True)
        sys.exit(1)
    except RunOutOfSight as exc:
        from devkit_api.cli.show import print_out_of_sight

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
        from devkit_api.cli.show import print_refusal

        print_refusal(exc)
        sys.exit(1)


def _advice(exc: DevkitUnreachable) -> str:
    if not exc.is_from_variables:
        return "Start one: python -m devkit_api"
    return (
        "HLA_API_ENDPOINT in this shell names it. Start it again, or leave it: unset HLA_API_ENDPOINT HLA_API_KEY, or\n"
        'for the devkit of this directory: eval "$(python -m devkit_api env)"'
    )
