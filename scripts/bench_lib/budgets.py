"""What the addresses asked most may take, at the 99th of 100 answers, with eight clients at once."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import requests

from bench_lib import servers
from bench_lib.load import measure
from bench_lib.plan import EXTERNAL, Plan
from bench_lib.report import Row

_CLIENTS = 8
_MODULES = "/v1/devkit/modules"
_Latencies = Callable[[servers.Server], float]


def endpoint_budgets(plan: Plan) -> list[Row]:
    """Readiness, the list of modules and registrations: p99 in milliseconds, beside a bare handler's."""
    names = count()

    def answered(path: str) -> _Latencies:
        return lambda server: measure(server.endpoint, "GET", path, seconds=plan.seconds, clients=_CLIENTS).p99

    def registered(server: servers.Server) -> float:
        return _registrations(server, plan.seconds, names)

    with TemporaryDirectory() as folder:
        root = Path(folder)
        with servers.devkit(root / "devkit") as devkit:
            for number in range(10):  # so that the list is one of a real devkit
                _register(requests.Session(), devkit, f"bench-{number}")
            return [
                _row(plan, root, devkit, "Ready", "/v1/system/ready", 100, answered("/v1/system/ready")),
                _row(plan, root, devkit, "Module list", "/v1/modules", 50, answered("/v1/modules")),
                _row(plan, root, devkit, "Registration, durable,", _MODULES, 200, registered),
            ]


def _row(plan: Plan, root: Path, devkit: servers.Server, what: str, path: str, budget: int, p99: _Latencies) -> Row:
    is_write = path == _MODULES
    sample = _register(requests.Session(), devkit, "bench-sample") if is_write else servers.call(devkit, "GET", path)
    seen: dict[str, list[float]] = {"bare": [], "devkit": []}
    with servers.bare(root, sample, reads_body=is_write) as bare:
        for _ in range(plan.rounds):
            seen["bare"].append(p99(bare) * 1000)
            seen["devkit"].append(p99(devkit) * 1000)
    subject, reference = (statistics.median(seen[name]) for name in ("devkit", "bare"))
    note = f"bare {reference:.1f} ms; {min(seen['devkit']):.1f} to {max(seen['devkit']):.1f} ms in {plan.rounds} rounds"
    values = {"p99_ms": subject, "bare_p99_ms": reference}
    what = f"{what} p99 at {_CLIENTS} clients"
    return Row(what, f"{subject:.1f} ms", f"< {budget} ms", subject < budget, note, values)


def _registrations(server: servers.Server, seconds: float, names: count[int]) -> float:
    """The 99th of 100 latencies in seconds. Each registration is of a module that was not there."""
    until = perf_counter() + seconds

    def client(number: int) -> list[float]:
        latencies = []
        with requests.Session() as session:
            while not latencies or perf_counter() < until:
                started = perf_counter()
                _register(session, server, f"bench-{number}-{next(names)}")
                latencies.append(perf_counter() - started)
        return latencies

    with ThreadPoolExecutor(_CLIENTS) as clients:
        every = sorted(latency for latencies in clients.map(client, range(_CLIENTS)) for latency in latencies)
    return every[int(len(every) * 0.99)]


def _register(session: requests.Session, server: servers.Server, name: str) -> requests.Response:
    body = json.dumps({"manifest": {**EXTERNAL, "name": name}})
    headers = {"Content-Type": "application/json", "X-API-Key": servers.KEY}
    answer = session.post(server.endpoint + _MODULES, data=body, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer
