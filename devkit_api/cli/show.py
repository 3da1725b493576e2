"""How the command line looks: tables, problems and answers, on the right stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devkit_api.cli.client import Connection, RequestFailed, RunOutOfSight
from devkit_api.settings import Problem

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_problems(problems: Iterable[Problem]) -> None:
    """Every wrong setting with its reason and fix."""
    table = Table(title="The devkit cannot start with these settings", title_justify="left", title_style="bold red")
    table.add_column("Variable", no_wrap=True)
    for heading in ("Problem", "Fix"):
        table.add_column(heading, overflow="fold")
    for problem in problems:
        table.add_row(escape(problem.variable), escape(problem.reason), escape(problem.fix))
    err.print(table)
    for problem in problems:
        # Once more as plain lines: a narrow terminal folds tables, and logs are searched by line.
        err.print(escape(str(problem)), style="red", soft_wrap=True)


def print_refusal(exc: RequestFailed) -> None:
    """An error body of the devkit."""
    err.print(f"[red]Error[/red] {escape(exc.code)}: {escape(exc.message)}", soft_wrap=True)
    for finding in exc.findings:
        expected = f" (expected: {finding['expected']})" if finding.get("expected") else ""
        err.print(f"  {escape(str(finding.get('path') or '/'))}: {escape(str(finding['message']))}{escape(expected)}")
    if exc.hint:
        err.print(f"[dim]{escape(exc.hint)}[/dim]", soft_wrap=True)


def print_out_of_sight(exc: RunOutOfSight) -> None:
    """The devkit stopped while a run was being followed: what becomes of the run."""
    err.print(
        f"[red]Error[/red] the devkit at {exc.endpoint} stopped while {exc.run_id} was not finished.", soft_wrap=True
    )
    err.print(
        "Start it again, in the same place: a run that was executing ends as failed (RUN_INTERRUPTED), one that was "
        "still queued goes on.",
        soft_wrap=True,
    )  # fmt: skip
    err.print(f"Then ask: GET /v1/module-runs/{exc.run_id}", soft_wrap=True)


def print_devkit(devkit: Connection) -> None:
    """Which devkit is talked to, and that it may not be the one that was meant."""
    err.print(f"[dim]Devkit at {devkit.endpoint}[/dim]", soft_wrap=True)
    other = devkit.bypassed()
    if other is not None:
        err.print(
            f"[yellow]Warning[/yellow] HLA_API_ENDPOINT in this shell names that one; this directory's is at {other}.\n"
            'To use this directory\'s: eval "$(python -m devkit_api env)"',
            soft_wrap=True,
        )


def print_json(value: Any) -> None:
    """Machine-readable answer, alone on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
