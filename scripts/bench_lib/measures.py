"""The measurements. Each alternates reference and subject in rounds, so that a slow moment of the machine hits both."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import attrs

from bench_lib import objects, servers
from bench_lib.budgets import endpoint_budgets
from bench_lib.catalogs import typed_reads
from bench_lib.load import Load, measure
from bench_lib.plan import EXTERNAL, Plan
from bench_lib.report import Row, ratio_row
from bench_lib.starts import starts
from bench_lib.stored_runs import store_runs

START = json.dumps({"moduleId": "bench-external", "parameters": {"n": 1}, "mode": "async"}).encode()
NO_OP = """
from hla_compass import Module


class Bench(Module):
    def execute(self, input_data, context):
        return self.success(results={"ok": True})
"""


RUN_NO_OP = json.dumps({"moduleId": "bench-no-op", "parameters": {}, "mode": "interactive"}).encode()
_WARM_UP = 16
_CLIENTS = 8


@attrs.frozen
class Sample:
    """One load, and the processor time the server used per answer."""

    load: Load
    cpu_seconds: float


def module_list(plan: Plan) -> list[Row]:
    """`GET /v1/modules` with the whole chain, against a bare handler sending the same body and headers."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        with (
            servers.devkit(root / "quiet") as quiet,
            servers.devkit(root / "logging", LOG_LEVEL="INFO", LOG_FORMAT="json") as logging,
        ):
            for subject in (quiet, logging):
                register_externals(subject)
            with servers.bare(root, servers.call(quiet, "GET", "/v1/modules")) as bare:
                loads = _rounds(plan, {"bare": bare, "quiet": quiet, "logging": logging}, "GET", "/v1/modules")
    busy = f"client {max(sample.load.client_busy for sample in loads['bare']):.0%} busy"
    return [
        ratio_row(
            "Module list, access log off, of a bare handler", _ratios(loads, "quiet", "bare"), 0.75,
            f"{_by_cpu(loads, 'quiet', 'bare')}; {busy}",
        ),
        ratio_row(
            "Module list, JSON access log to a file, of a bare handler", _ratios(loads, "logging", "bare"), 0.55,
            _by_cpu(loads, "logging", "bare"),
        ),
    ]  # fmt: skip


def acknowledgement(plan: Plan) -> list[Row]:
    """`POST /v1/module-runs`, stored durably before it is answered, against a bare handler that reads and answers."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        with servers.devkit(root / "devkit") as devkit:
            register_externals(devkit)
            with servers.bare(root, _start(devkit), reads_body=True) as bare:
                loads = _rounds(plan, {"bare": bare, "devkit": devkit}, "POST", "/v1/module-runs", START)
    p50, p99 = (_median_ms(loads["devkit"], name) for name in ("p50", "p99"))
    bare_p50, bare_p99 = (_median_ms(loads["bare"], name) for name in ("p50", "p99"))
    ratio = statistics.median(_ratios(loads, "devkit", "bare"))
    latency = f"p50 {p50:.1f} ms, bare {bare_p50:.1f} ms; bare p99 {bare_p99:.1f} ms"
    return [
        Row("Run acknowledgement, durable, of a bare handler", f"{ratio:.2f}", "none", None, "", {"ratio": ratio}),
        Row("Run acknowledgement, p99 at 8 clients", f"{p99:.1f} ms", "< 20 ms", p99 < 20, latency,
            {"p50_ms": p50, "p99_ms": p99, "bare_p50_ms": bare_p50, "bare_p99_ms": bare_p99}),
    ]  # fmt: skip


def growth(plan: Plan) -> list[Row]:
    """The acknowledgement rate with many stored runs against that with ten."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        store_runs(root / "few" / "state", 10)
        store_runs(root / "many" / "state", plan.stored)
        started = perf_counter()
        with servers.devkit(root / "few") as few:
            few_start = perf_counter() - started
            started = perf_counter()
            with servers.devkit(root / "many") as many:
                many_start = perf_counter() - started
                if _run_counts(many)["completed"] != plan.stored:
                    raise RuntimeError("the server does not have the runs that were stored")
                for server in (few, many):
                    register_externals(server)
                loads = _rounds(plan, {"few": few, "many": many}, "POST", "/v1/module-runs", START)
    what = f"Run acknowledgement with {plan.stored} stored runs, of that with 10"
    p99 = ", with 10 runs ".join(f"{_median_ms(loads[name], 'p99'):.1f} ms" for name in ("many", "few"))
    notes = f"first start, database made, {many_start:.2f} s, with 10 runs {few_start:.2f} s; p99 {p99}"
    return [ratio_row(what, _ratios(loads, "many", "few"), 0.9, notes)]


def cold_run(plan: Plan) -> list[Row]:
    """An interactive run of a no-op module, post to result, against a cold process of the SDK's own runner."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        module = write_no_op(root / "modules" / "bench-no-op")
        reference, subject = [], []
        # Not pinned: the run's process may use the core that the server does not.
        with servers.devkit(root / "devkit", modules=root / "modules", pinned=False) as devkit:
            for _ in range(_WARM_UP):
                _post_and_wait(devkit)
            for _ in range(2 * plan.rounds):
                reference.append(_seconds(lambda: _cold_runner(module, root)))
                subject.append(_seconds(lambda: _post_and_wait(devkit)))
    runner, post = statistics.median(reference), statistics.median(subject)
    note = f"runner p50 {runner * 1000:.0f} ms, post to result p50 {post * 1000:.0f} ms, {len(subject)} of each"
    faster = runner / post
    values = {"times_faster": faster, "runner_ms": runner * 1000, "post_ms": post * 1000}
    what = "No-op run, times faster than a cold runner"
    return [
        Row(what, f"{faster:.2f} times", "≥ 15 times", faster >= 15, note, values),
        Row("No-op run, post to result, p50", f"{post * 1000:.1f} ms", "≤ 25 ms", post <= 0.025, "", {}),
    ]


def sustained(plan: Plan) -> list[Row]:
    """No-op runs per second with eight clients, each waiting for its result, and whether every run is accounted for."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_no_op(root / "modules" / "bench-no-op")
        with servers.devkit(root / "devkit", modules=root / "modules", pinned=False) as devkit:
            for _ in range(_WARM_UP):
                _post_and_wait(devkit)
            before = _run_counts(devkit)
            load = measure(
                devkit.endpoint, "POST", "/v1/module-runs", seconds=30 * plan.seconds, clients=_CLIENTS, body=RUN_NO_OP
            )
            after = _settled_counts(devkit)
    made = {status: after[status] - before[status] for status in after}
    completed, failed = made.pop("completed"), sum(made.values())
    # When the time is over, each client may still wait for one more.
    lost, doubled = max(0, load.answers - completed), max(0, completed - load.answers - _CLIENTS)
    note = f"{completed} runs, {lost} lost, {doubled} too many, {failed} not completed; p50 {load.p50 * 1000:.0f} ms"
    is_good = load.rate >= 60 and not (lost or doubled or failed)
    values = {"rate": load.rate, "lost": lost, "doubled": doubled, "failed": failed}
    return [Row("No-op runs sustained by 8 clients", f"{load.rate:.1f} runs/s", "≥ 60 runs/s", is_good, note, values)]


def catalog_reads(plan: Plan) -> list[Row]:
    """Typed reads of a catalog against bare aiopg running the same statement, and small against large."""
    return typed_reads(plan.rounds, plan.seconds, plan.peptides, plan.data)


# Together a row for every target in docs/performance.md.
MEASURES: dict[str, Callable[[Plan], list[Row]]] = {
    "start": starts,
    "list": module_list,
    "ack": acknowledgement,
    "budgets": endpoint_budgets,
    "growth": growth,
    "cold": cold_run,
    "catalog": catalog_reads,
    "transfers": objects.transfers,
    "listing": objects.listing,
    "memory": objects.memory,
    "sustained": sustained,
}


def register_externals(server: servers.Server) -> None:
    """Ten modules without source, so that the list is one of a real devkit."""
    for number in range(10):
        name = "bench-external" if number == 0 else f"bench-external-{number}"
        servers.call(server, "POST", "/v1/devkit/modules", json={"manifest": {**EXTERNAL, "name": name}})


def write_no_op(folder: Path) -> Path:
    """A module that does nothing."""
    backend = folder / "backend"
    backend.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({**EXTERNAL, "name": folder.name}))
    (backend / "__init__.py").write_text("")
    (backend / "main.py").write_text(NO_OP)
    (backend / "requirements.txt").write_text("hla-compass==6.0.2\n")
    return folder


def _start(server: servers.Server) -> servers.requests.Response:
    headers = {"Content-Type": "application/json", "X-API-Key": servers.KEY}
    answer = servers.requests.post(server.endpoint + "/v1/module-runs", data=START, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer


def _rounds(
    plan: Plan, among: dict[str, servers.Server], method: str, path: str, body: bytes = b""
) -> dict[str, list[Sample]]:
    loads: dict[str, list[Sample]] = {name: [] for name in among}
    for server in among.values():
        measure(server.endpoint, method, path, seconds=0.3, body=body)
    for _ in range(plan.rounds):
        for name, server in among.items():
            used = server.cpu_seconds
            load = measure(server.endpoint, method, path, seconds=plan.seconds, body=body)
            loads[name].append(Sample(load, (server.cpu_seconds - used) / load.answers))
    return loads


def _ratios(loads: dict[str, list[Sample]], subject: str, reference: str) -> list[float]:
    return [one.load.rate / other.load.rate for one, other in zip(loads[subject], loads[reference], strict=True)]


def _by_cpu(loads: dict[str, list[Sample]], subject: str, reference: str) -> str:
    """The same ratio by the servers' processor time per answer, which other work on the machine disturbs less."""
    ratios = [other.cpu_seconds / one.cpu_seconds for one, other in zip(loads[subject], loads[reference], strict=True)]
    return f"By processor time per answer {statistics.median(ratios):.2f}"


def _median_ms(loads: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample.load, name) for sample in loads) * 1000


def _seconds(action: Callable[[], None]) -> float:
    started = perf_counter()
    action()
    return perf_counter() - started


def _cold_runner(module: Path, root: Path) -> None:
    """`python -m hla_compass.runtime.runner` in the module's folder, as the platform starts it."""
    scratch = root / "cold"
    scratch.mkdir(exist_ok=True)
    (scratch / "input.json").write_text("{}")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "HLA_COMPASS_OFFLINE": "1",
        "HLA_COMPASS_WORKDIR": str(scratch / "work"),
        "HLA_COMPASS_MODULE": "backend.main:Bench",
        "HLA_COMPASS_PAYLOAD": str(scratch / "input.json"),
        "HLA_COMPASS_OUTPUT": str(scratch / "output.json"),
        "HLA_COMPASS_SUMMARY": str(scratch / "summary.json"),
    }
    command = [sys.executable, "-m", "hla_compass.runtime.runner"]
    subprocess.run(command, cwd=module, env=environment, check=True, capture_output=True, timeout=60)
    _check(json.loads((scratch / "output.json").read_text()))


def _post_and_wait(devkit: servers.Server) -> None:
    _check(servers.call(devkit, "POST", "/v1/module-runs", json=json.loads(RUN_NO_OP)).json())


def _run_counts(devkit: servers.Server) -> dict[str, int]:
    counts: dict[str, int] = servers.call(devkit, "GET", "/v1/system/health").json()["runs"]
    return counts


def _settled_counts(devkit: servers.Server) -> dict[str, int]:
    """Once nothing waits or executes any more."""
    while (counts := _run_counts(devkit)) and any(counts[name] for name in ("queued", "running", "cancel_requested")):
        # The counts are the server's, and it announces no end of all runs.
        sleep(0.1)
    return counts


def _check(output: dict[str, object]) -> None:
    """A run that did not execute must not count as a fast one."""
    if output.get("results") != {"ok": True}:
        raise RuntimeError(f"the no-op run did not succeed: {output}")
