"""`scripts/bench`."""

from __future__ import annotations

from pathlib import Path

import click

from bench_lib.machine import cores
from bench_lib.measures import MEASURES
from bench_lib.plan import Plan
from bench_lib.report import out, print_report


@click.command()
@click.argument("what", type=click.Choice(["all", *MEASURES]))
@click.option("--rounds", type=click.IntRange(1, 30), default=7, help="Rounds of reference and subject.")
@click.option("--seconds", type=click.FloatRange(0.2, 10), default=1.0, help="Length of one load.")
@click.option("--stored", type=click.IntRange(10, 200_000), default=100_000, help="Stored runs for `growth`.")
@click.option(
    "--peptides",
    type=click.IntRange(20_000, 10_000_000),
    help="Size for `catalog`, generated unless --data has it. Without: the largest in --data, else 100 000.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep catalogs here for next time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def main(
    what: str, *, rounds: int, seconds: float, stored: int, peptides: int | None, data: Path | None, as_json: bool
) -> None:
    """Measure WHAT, or all there is. Servers listen on loopback and stop by themselves."""
    if not as_json:
        server, client = cores()
        out.print(f"Servers on core(s) {sorted(server) or 'any'}, clients on {sorted(client) or 'any'}.")
    rows = []
    for name, measure in MEASURES.items():
        if what in {"all", name}:
            if not as_json:
                out.print(f"Measuring {name}: {(measure.__doc__ or '').splitlines()[0]}")
            rows += measure(Plan(rounds, seconds, stored, peptides, data))
    print_report(rows, as_json=as_json)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
