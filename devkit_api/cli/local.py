"""Commands that look at this machine: `env`, `token` and `doctor`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import attrs
import click
from rich.markup import escape
from rich.padding import Padding

from devkit_api.cli.client import is_answering, local_endpoint
from devkit_api.cli.serve import export_lines
from devkit_api.cli.show import err, out, print_json, print_problems
from devkit_api.execution.isolation import EXPLAINED, Level, probe_level, unreachable
from devkit_api.security.credentials import load_credentials
from devkit_api.security.principals import Role
from devkit_api.settings import Settings, SettingsError, load_settings, setting_infos, unknown_variables

_MIN_FREE = 512 * 1024 * 1024


@click.command()
def env() -> None:
    """Print the two export lines for the SDK, for `eval "$(…)"`."""
    settings = load_settings(os.environ)
    own = local_endpoint(settings)
    endpoint = settings.public_url or own
    try:
        lines = export_lines(settings, endpoint)
    except FileNotFoundError:
        raise click.ClickException(f"no credentials in {settings.state_dir}; start the devkit there first") from None
    # On stderr, where it is read while `eval` takes the rest.
    place = f"{endpoint} (state in {settings.state_dir.absolute()})"
    if is_answering(own):
        err.print(f"[dim]Devkit at {escape(place)}[/dim]", soft_wrap=True)
    else:
        err.print(
            f"[yellow]Warning[/yellow] no devkit answers at {escape(place)}; start it: python -m devkit_api",
            soft_wrap=True,
        )
    click.echo("\n".join(lines))


@click.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.PLATFORM_ADMIN.value)
@click.option("--seconds", type=click.IntRange(1, 86_400), default=3600, show_default=True, help="How long it is good.")
def token(role: str, seconds: int) -> None:
    """Print a bearer token for the local user, alone on the last line (for HLA_ACCESS_TOKEN)."""
    from devkit_api.security.sessions import Sessions

    settings = load_settings(os.environ)
    credentials = load_credentials(settings, create=False)
    if credentials is None:
        raise click.ClickException(f"no credentials in {settings.state_dir}; start the devkit there first")
    sessions = Sessions(credentials.signing_secret, settings.jwt_issuer, settings.jwt_audience, settings.org_id)
    click.echo(sessions.issue(settings.user_id, Role(role), lifetime=seconds))


@attrs.frozen
class Finding:
    """One line of `doctor`: `state` is ok, warn or missing."""

    name: str
    state: str
    text: str


@click.command()
@click.option("--settings", "every", is_flag=True, help="Show every setting with its help, not only what was set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone, with every setting.")
def doctor(every: bool, as_json: bool) -> None:
    """Check this machine and the settings: what was set, what is missing, whether the devkit can start."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as exc:
        if as_json:
            print_json({"ok": False, "problems": [attrs.asdict(problem) for problem in exc.problems]})
        else:
            print_problems(exc.problems)
        sys.exit(1)
    findings = list(_findings(settings))
    ok = all(finding.state != "missing" for finding in findings)
    if as_json:
        print_json({"ok": ok, "settings": _rows(settings), "checks": [attrs.asdict(f) for f in findings]})
    else:
        _print_settings(settings, every=every)
        _print_findings(findings)
    sys.exit(0 if ok else 1)


def _rows(settings: Settings) -> list[dict[str, str]]:
    rows = []
    for name, info in setting_infos().items():
        value = getattr(settings, name)
        rows.append(
            {
                "variable": info.env,
                "value": _shown(value, info.is_secret),
                "source": settings.sources.get(name, "default"),
                "help": info.help,
            }
        )
    return rows


def _shown(value: object, is_secret: bool) -> str:
    if value is None:
        return "(unset)"
    if is_secret:
        return "********"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(none)"
    return str(value)


def _findings(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding("Python", "ok" if supported else "warn", f"{version}; 3.11 to 3.13 are tested")
    try:
        yield Finding("hla-compass", "ok", importlib.metadata.version("hla-compass"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("hla-compass", "missing", "pip install hla-compass==6.0.2")
    existing = existing_folder(settings.state_dir)
    writable = os.access(existing, os.W_OK)
    yield Finding("state directory", "ok" if writable else "missing", f"{settings.state_dir} (writable: {writable})")
    free = shutil.disk_usage(existing).free
    yield Finding("disk", "ok" if free > _MIN_FREE else "warn", f"{free // 1024**2} MiB free")
    yield from _state_in_postgres(settings)
    yield _isolation(settings)
    if settings.executor == "dask":
        yield _scheduler(settings)
    try:
        credentials = load_credentials(settings, create=False)
    except SettingsError as exc:
        yield from (
            Finding(problem.variable, "missing", f"{problem.reason}; {problem.fix}") for problem in exc.problems
        )
    else:
        yield Finding("API key", "ok", "present" if credentials else "what is missing is made at the first start")
    if settings.modules_dir is None:
        yield Finding("modules", "ok", "no directory is watched; start with --modules DIR to watch one")
    for name in unknown_variables(os.environ):
        yield Finding(name, "warn", "is not a setting; is it misspelt?")


def _state_in_postgres(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, and whose the state in it is."""
    if settings.state_backend != "postgres":
        return
    name = "state in PostgreSQL"
    import psycopg2

    from devkit_api.database.embedded import EmbeddedPostgres
    from devkit_api.database.failures import first_line
    from devkit_api.database.lifetime import external_target
    from devkit_api.state.postgres.look import look

    server = None if settings.db_host else EmbeddedPostgres(settings.state_dir / "postgres")
    if server is not None and not server.is_running:
        yield Finding(name, "ok", "in the embedded server, which starts with the devkit")
        return
    try:
        found = look(server.target if server else external_target(settings))
    except psycopg2.Error as exc:
        where = settings.db_host or "the embedded server"
        yield Finding(name, "missing", f"{where} cannot be used: {first_line(exc)}")
        return
    held = "nothing there yet" if found.documents is None else f"{found.documents} documents"
    owner = f"owned by {found.owner}" if found.owner else "owned by no devkit now"
    yield Finding(name, "ok", f"{held}, {owner}")


def _isolation(settings: Settings) -> Finding:
    level = probe_level(wanted=settings.isolation, state_dir=existing_folder(settings.state_dir))
    text = f"{level.value}: {EXPLAINED[level]}"
    if level is Level.PROCESS and os.geteuid() == 0 and settings.isolation == "auto":
        closed = unreachable([sys.prefix, sys.base_prefix, str(existing_folder(settings.state_dir))])
        text += f" (other users cannot enter {closed})" if closed else ""
    if settings.isolation == "namespaces" and level not in (Level.NAMESPACES, Level.CONTAINED):
        return Finding("isolation of runs", "missing", f"DEVKIT_ISOLATION asks for namespaces; there is {text}")
    return Finding("isolation of runs", "warn" if level is Level.PROCESS and os.geteuid() == 0 else "ok", text)


def _scheduler(settings: Settings) -> Finding:
    assert settings.dask_scheduler is not None  # noqa: S101  the settings were checked
    if find_spec("distributed") is None:
        return Finding("Dask scheduler", "missing", "pip install 'hla-compass-devkit[dask]'")
    # An extra, and slow to import.
    from devkit_api.execution.cluster.scheduler import WITHOUT_TLS, SchedulerGone, is_encrypted, look_once

    try:
        found = asyncio.run(look_once(settings.dask_scheduler, settings.dask_resource))
    except SchedulerGone as exc:
        text = f"{settings.dask_scheduler} cannot be reached, and runs will wait for it ({exc})"
        return Finding("Dask scheduler", "warn", text)
    workers, runs = (f"{n} {what}{'s' * (n != 1)}" for n, what in ((found.workers, "worker"), (found.slots, "run")))
    text = f"{settings.dask_scheduler}: {workers}, {runs} at a time"
    if not is_encrypted(settings.dask_scheduler):
        text += f"; {WITHOUT_TLS}"
    return Finding("Dask scheduler", "ok" if found.slots and is_encrypted(settings.dask_scheduler) else "warn", text)


def existing_folder(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())


def _print_settings(settings: Settings, *, every: bool) -> None:
    """Above the findings, so that these, and not what is as always, are what is seen last."""
    # Lines, not a table: a table of four columns cuts names to pieces at 80.
    for row in _rows(settings):
        if not every and row["source"] == "default":
            continue
        source = f"  [dim]({escape(row['source'])})[/dim]"
        out.print(f"[bold]{row['variable']}[/bold] = {escape(row['value'])}{source}", soft_wrap=True)
        if every:
            out.print(Padding(f"[dim]{escape(row['help'])}[/dim]", (0, 0, 0, 4), expand=False))
    if not every:
        out.print("[dim]Every other setting has its default (doctor --settings).[/dim]", soft_wrap=True)


def _print_findings(findings: list[Finding]) -> None:
    colours = {"ok": "green", "warn": "yellow", "missing": "red"}
    order = list(colours)
    for finding in sorted(findings, key=lambda finding: order.index(finding.state)):
        state = f"[{colours[finding.state]}]{finding.state:>7}[/{colours[finding.state]}]"
        out.print(f"{state}  {escape(finding.name)}: {escape(finding.text)}", soft_wrap=True)
    out.print(_verdict(findings), soft_wrap=True)


def _verdict(findings: list[Finding]) -> str:
    missing = sum(finding.state == "missing" for finding in findings)
    warnings = sum(finding.state == "warn" for finding in findings)
    if missing:
        return f"[red]The devkit cannot start: {missing} missing[/red] (the last lines above)."
    if warnings:
        return f"[yellow]The devkit can start; look at {warnings} warning{'s' * (warnings > 1)} above.[/yellow]"
    return "[green]The devkit can start.[/green]"
