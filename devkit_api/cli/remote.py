"""Commands that talk to a running devkit: `register`, `run` and `reset`."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from devkit_api.cli.client import Connection, DevkitUnreachable, RequestFailed, RunOutOfSight, module_files
from devkit_api.cli.inputs import sources
from devkit_api.cli.show import err, out, print_devkit, print_json

# Exit codes of `run`, by how the run ended.
EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 3, "timed_out": 4}
# Log lines of this logger are the steps in which a module's environment is built (`runs/logs.py`).
_BUILD_LOGGER = "devkit.environment"


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def register(path: Path, as_json: bool) -> None:
    """Register the module in the folder PATH with the running devkit."""
    if not (path / "manifest.json").is_file():
        raise click.ClickException(f"{path} has no manifest.json; name the folder of a module")
    files = {"source": ("source.zip", _zip(path), "application/zip")}
    answer = _find_devkit(quiet=as_json).request("POST", "/v1/devkit/modules", files=files)
    if as_json:
        print_json(answer)
        return
    module = answer["module"]
    out.print(f"[green]Registered[/green] {module['id']} {module['version']} ({module['source']['files']} files)")
    out.print(f"Run it: python -m devkit_api run {module['id']} --input INPUT.json --follow", soft_wrap=True)


@click.command()
@click.argument("module")
@click.option("--input", "input_file", type=click.File("r"), help="JSON file with the parameters; '-' reads stdin.")
@click.option("--source", "named", multiple=True, metavar="NAME=FILE", help="A named input: a file, or s3://… of one.")
@click.option("--version", help="Version of the module; default: the current one.")
@click.option("--follow", is_flag=True, help="Show progress and logs while it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON alone.")
def run(  # noqa: PLR0917  click passes them by name
    module: str, input_file: Any, named: tuple[str, ...], version: str | None, follow: bool, as_json: bool
) -> None:
    """Run MODULE and print its result.

    The exit code says how it ended: 0 completed, 1 failed, 3 cancelled, 4 timed out.
    """
    try:
        parameters = json.load(input_file) if input_file else {}
    except ValueError as exc:
        raise click.ClickException(f"the input is not JSON: {exc}") from None
    devkit = _find_devkit(quiet=as_json)
    found = _module(devkit, module, version)
    if found["sourceStatus"]["problem"] and not as_json:
        err.print(f"[yellow]Warning[/yellow] {escape(found['sourceStatus']['problem'])}", soft_wrap=True)
    request = {"moduleId": module, "parameters": parameters, "mode": _mode(found)}
    if version:
        request["version"] = version
    if named:
        request["dataContext"] = {"sources": sources(devkit, named, show_progress=not as_json)}
    started = _start(devkit, request, has_input=input_file is not None)
    run_id = started["runId"]
    if started["waitingFor"]:
        _print_waiting(started)
    try:
        final = _until_end(devkit, run_id, show_progress=not as_json, show_logs=follow and not as_json)
        result = devkit.request("GET", f"/v1/api/module-runs/{run_id}/result")
    except DevkitUnreachable:
        raise RunOutOfSight(devkit.endpoint, run_id) from None
    if as_json:
        print_json(result)
    else:
        _print_result(final, result)
    sys.exit(EXIT_CODES.get(final["status"], 1))


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Empty the running devkit: every module, run and file goes; settings stay."""
    devkit = Connection.find()
    if not yes:
        click.confirm(f"Delete every module, run and file of the devkit at {devkit.endpoint}?", abort=True)
    devkit.request("POST", "/v1/devkit/reset")
    out.print("[green]The devkit is empty.[/green]")


def _start(devkit: Connection, request: dict[str, Any], *, has_input: bool) -> dict[str, Any]:
    """The run as accepted."""
    try:
        started: dict[str, Any] = devkit.request("POST", "/v1/api/module-runs", json=request)
    except RequestFailed as exc:
        if exc.code == "INPUT_INVALID" and not has_input:
            exc.hint += " No parameters were given: --input FILE names a JSON file with them, as the templates'"
            exc.hint += " examples/sample_input.json is one."
        raise
    return started


def _find_devkit(*, quiet: bool) -> Connection:
    devkit = Connection.find()
    if not quiet:
        print_devkit(devkit)
    return devkit


def _until_end(devkit: Connection, run_id: str, *, show_progress: bool, show_logs: bool) -> dict[str, Any]:
    """The run when it has ended; Ctrl-C cancels it."""
    try:
        return _watch(devkit, run_id, show_progress=show_progress, show_logs=show_logs)
    except KeyboardInterrupt:
        devkit.request("POST", f"/v1/api/module-runs/{run_id}/cancel")
        return _watch(devkit, run_id, show_progress=False, show_logs=False)


def _print_waiting(started: dict[str, Any]) -> None:
    """On stderr, `--json` or not: without it a run of an external module looks like one that hangs."""
    err.print(f"[yellow]Waiting[/yellow] {started['runId']} {escape(started['waitingFor'])}", soft_wrap=True)
    if "token" in started:
        err.print(f"  run token, shown once: {escape(started['token'])}", soft_wrap=True)


def _module(devkit: Connection, module: str, version: str | None) -> dict[str, Any]:
    query = {"version": version} if version else {}
    found: dict[str, Any] = devkit.request("GET", f"/v1/api/modules/{quote(module, safe='')}", params=query)
    return found


def _mode(found: dict[str, Any]) -> str:
    """A mode that is answered at once: `async`, or `workflow` for modules that take nothing else."""
    return "workflow" if found["manifest"]["execution"].get("supports") == ["workflow"] else "async"


def _zip(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in module_files(folder):
            archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def _watch(devkit: Connection, run_id: str, *, show_progress: bool, show_logs: bool) -> dict[str, Any]:
    """Follow a run to its end; a progress bar where there is a terminal. The steps of a build are shown either way."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not (show_progress and err.is_terminal), transient=True) as bar:
        task = bar.add_task("queued", total=100)
        for kind, data in devkit.events(run_id):
            if kind == "log":
                is_build = data.get("logger") == _BUILD_LOGGER
                if is_build:
                    bar.update(task, description=f"environment: {escape(data['message'][:60])}")
                if show_logs or (is_build and show_progress and bar.disable):
                    _print_log(data)
            elif kind == "progress":
                bar.update(task, completed=data["percent"], description=escape(data["message"][:60]))
            elif kind == "state":
                bar.update(task, description="waiting for a backend" if data["waitingFor"] else data["status"])
    run: dict[str, Any] = devkit.request("GET", f"/v1/api/module-runs/{run_id}")
    return run


def _print_log(event: dict[str, Any]) -> None:
    # The SDK counts its own requests in the log: half of it, and nothing of the module's.
    if event["message"] == "API request telemetry":
        return
    style = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}.get(event.get("level", ""), "dim")
    # In the text: `style=` would be that of the progress bar below it too.
    err.print(f"[{style}]{escape(event['message'])}[/{style}]", soft_wrap=True)


def _print_result(run: dict[str, Any], result: dict[str, Any]) -> None:
    colour = "green" if run["status"] == "completed" else "red"
    out.print(f"[{colour}]{run['status']}[/{colour}]  {run['runId']}")
    if run["error"]:
        out.print(f"[red]{escape(run['error']['code'])}[/red] {escape(run['error']['message'])}", soft_wrap=True)
        return
    table = Table(show_header=False, title="Summary", title_justify="left")
    for name, value in (result.get("summary") or {}).items():
        table.add_row(escape(name), escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    if table.row_count:
        out.print(table)
    out.print(f"Whole result: GET /v1/module-runs/{run['runId']}/result, or run it with --json", soft_wrap=True)
    out.print(f"Saved files: python -m devkit_api files {run['runId']} --save results", soft_wrap=True)
