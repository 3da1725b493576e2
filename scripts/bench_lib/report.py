"""What the benchmark prints."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence

import attrs
from rich.console import Console
from rich.table import Table

out = Console(highlight=False)


@attrs.frozen
class Row:
    """One figure beside its target. `meets` is None where there is no target."""

    what: str
    measured: str
    target: str
    meets: bool | None
    notes: str = ""
    values: dict[str, float] = attrs.Factory(dict)


def ratio_row(what: str, ratios: Sequence[float], target: float, notes: str = "") -> Row:
    """The median of the ratios of all rounds; at least `target` is good."""
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
    values = {"ratio": ratio, "lowest": min(ratios), "highest": max(ratios), "target": target}
    return Row(what, f"{ratio:.2f}", f"≥ {target:.2f}", ratio >= target, f"{spread}. {notes}".strip(), values)


def print_report(rows: list[Row], *, as_json: bool) -> None:
    """The table, or JSON alone."""
    if as_json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        print(json.dumps({"machine": machine, "rows": [attrs.asdict(row) for row in rows]}, indent=2))
        return
    table = Table(title="Measured against the reference in the same run", title_justify="left", show_lines=True)
    for heading in ("What", "Measured", "Target", "", "How"):
        table.add_column(heading, overflow="fold")
    marks = {True: "[green]met[/green]", False: "[yellow]not yet[/yellow]", None: ""}
    for row in rows:
        table.add_row(row.what, row.measured, row.target, marks[row.meets], row.notes)
    out.print(table)
