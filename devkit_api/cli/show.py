"""How the command line looks: tables, problems and answers, on the right stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devkit_api.cli.client import RequestFailed
from devkit_api.settings import Problem

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_problems(problems: Iterable[Problem]) -> None:
    """Every wrong setting with its reason and fix."""
    table = Table(title="The devkit cannot start with these settings", title_justify="left", title_style="bold red")
    for heading in ("Variable", "Problem", "Fix"):
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


def print_json(value: Any) -> None:
    """Machine-readable answer, alone on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
