"""Run the bundled example module with the official SDK, and show what came of it.

What a client of yours would do: `hla_compass.APIClient` finds the devkit by HLA_API_ENDPOINT and HLA_API_KEY, starts a
run, waits for it, reads the result and the logs. Saved files are listed by the devkit, each with a signed address.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import requests
from hla_compass import APIClient
from hla_compass.client import APIError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

REPO = Path(__file__).resolve().parent.parent
EXAMPLE = REPO / "templates" / "no-ui-template"
out = Console(highlight=False)


def main() -> int:
    """Run the example; 0 when it completed."""
    module_id = json.loads((EXAMPLE / "manifest.json").read_text(encoding="utf-8"))["name"]
    parameters = json.loads((EXAMPLE / "examples" / "sample_input.json").read_text(encoding="utf-8"))
    client = APIClient()
    run = client.start_module_run(module_id, parameters=parameters, mode="async")
    run_id = run["runId"]
    out.print(f"Started [bold]{module_id}[/bold] as {run_id}")
    try:
        result = client.wait_for_module_run(run_id, timeout=120, poll_interval=0.25)
    except APIError as exc:
        out.print(f"[red]The run did not complete:[/red] {escape(str(exc))}")
        show_logs(client, run_id)
        return 1
    out.print(f"[green]{result['status']}[/green] in {result['metrics']['executeSeconds']:.2f} s")
    show_logs(client, run_id)
    show_result(result)
    show_files(run_id)
    return 0


def show_logs(client: APIClient, run_id: str) -> None:
    """The module's own log lines."""
    out.print("\n[bold]Logs[/bold]  client.get_module_run_logs(run_id)")
    for event in client.get_module_run_logs(run_id)["events"]:
        # The SDK reports each of its own calls as well; the module's lines are what a reader wants.
        if "request telemetry" not in event["message"]:
            out.print(f"  [dim]{event.get('level', ''):<7}[/dim] {escape(event['message'])}", soft_wrap=True)


def show_result(result: dict[str, Any]) -> None:
    """The summary, and the anchors the module found."""
    out.print("\n[bold]Result[/bold]  client.get_module_run_result(run_id)")
    summary = ", ".join(f"{name}: {value}" for name, value in result["summary"].items() if not isinstance(value, list))
    out.print(f"  {summary}")
    table = Table("Allele", "Peptides", "P2", "PΩ")
    for row in result["data"]["results"]["alleles"]:
        table.add_row(row["allele"], str(row["peptides"]), anchors(row["p2"]), anchors(row["c_term"]))
    out.print(table)


def anchors(rows: list[dict[str, Any]]) -> str:
    """The most frequent residues of one anchor."""
    return "  ".join(f"{row['residue']} {row['frequency']:.0%}" for row in rows[:3])


def show_files(run_id: str) -> None:
    """Where the saved files are, and proof that they can be read."""
    endpoint, key = os.environ["HLA_API_ENDPOINT"], os.environ["HLA_API_KEY"]
    path = f"/v1/module-runs/{run_id}/files"
    answer = requests.get(endpoint + path, headers={"X-API-Key": key}, timeout=30)
    answer.raise_for_status()
    out.print(f"\n[bold]Saved files[/bold]  GET {path}")
    for file in answer.json()["files"]:
        content = requests.get(file["url"], timeout=30)
        content.raise_for_status()
        out.print(f"  {file['s3Uri']}  {len(content.content)} bytes", soft_wrap=True)
    out.print(f"  Save them: python -m devkit_api files {run_id} --save results", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
