"""Measure warm runs against a cold runner: `python scripts/bench_warm.py [--seconds 30] [--clients 8] [--json]`.

Starts a devkit of its own on a free port, registers a module that does nothing, and measures, in one process tree:
the latency of an interactive start over HTTP (post to result, run token and API client included), the rate with
several clients, and `python -m hla_compass.runtime.runner` on the same module and the same server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests

REPO = Path(__file__).resolve().parents[1]
KEY = "bench-key-0123456789abcdef"
MANIFEST = {
    "schemaVersion": "1.0", "name": "noop", "version": "1.0.0", "type": "no-ui", "computeType": "fargate",
    "description": "Does nothing",
    "execution": {"entrypoint": "backend.main:Noop", "supports": ["interactive", "async"]},
    "resources": {"memory": 512, "maxRuntimeSeconds": 60},
}  # fmt: skip
SOURCE = """from hla_compass import Module


class Noop(Module):
    def execute(self, input_data, context):
        assert self.api is not None
        return self.success(results={"ok": True})
"""


def write_module(folder: Path) -> None:
    (folder / "backend").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "backend" / "__init__.py").write_text("")
    (folder / "backend" / "main.py").write_text(SOURCE)


class Server:
    """A devkit for the length of a `with`."""

    def __init__(self, root: Path, **settings: str) -> None:
        write_module(root / "modules" / "noop")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
        self.env = {
            **clean, "PYTHONPATH": str(REPO), "DEVKIT_PORT": "0", "DEVKIT_API_KEY": KEY, "DEVKIT_LOG_LEVEL": "WARNING",
            "DEVKIT_STATE_DIR": str(root / "state"), "DEVKIT_MODULES_DIR": str(root / "modules"),
            "DEVKIT_RATE_LIMIT_RUN": "off", "DEVKIT_RATE_LIMIT_WRITE": "off", "DEVKIT_RATE_LIMIT_READ": "off",
            **settings,
        }  # fmt: skip

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "devkit_api", "serve"], env=self.env, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "ready at" not in line:
            raise SystemExit(f"the devkit did not start: {line!r}")
        self.endpoint = line.split("ready at", 1)[1].strip()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)

    def session(self) -> requests.Session:
        session = requests.Session()
        session.headers["X-API-Key"] = KEY
        return session

    def run(self, session: requests.Session) -> tuple[float, dict[str, Any]]:
        started = time.perf_counter()
        body = {"moduleId": "noop", "parameters": {}, "mode": "interactive"}
        answer = session.post(self.endpoint + "/v1/module-runs", json=body, timeout=60)
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        return seconds, answer.json()


def latency(server: Server, count: int) -> tuple[list[float], list[dict[str, Any]]]:
    session = server.session()
    for _ in range(5):
        server.run(session)
    seconds, metrics = [], []
    for _ in range(count):
        taken, output = server.run(session)
        assert output["status"] == "success", output
        seconds.append(taken)
        run = session.get(f"{server.endpoint}/v1/module-runs/{output['_run']['runId']}", timeout=10).json()
        metrics.append(run["metrics"])
    return seconds, metrics


def sustained(server: Server, clients: int, seconds: float) -> tuple[float, int, int]:
    """Runs per second, how many, and how many run ids were seen twice or did not complete."""
    deadline = time.perf_counter() + seconds
    seen: list[tuple[str, str]] = []

    def work() -> None:
        session = server.session()
        while time.perf_counter() < deadline:
            _, output = server.run(session)
            seen.append((output["_run"]["runId"], output["_run"]["status"]))

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    wrong = len(seen) - len({run_id for run_id, _ in seen}) + sum(status != "completed" for _, status in seen)
    return len(seen) / took, len(seen), wrong


def cold(server: Server, root: Path, count: int) -> list[float]:
    """The SDK's runner on its own, on the same module, with an API client for the same server."""
    folder = root / "modules" / "noop"
    seconds = []
    for number in range(count):
        work = root / f"cold-{number}"
        work.mkdir()
        context = {
            "run_id": f"cold-{number}", "module_id": "noop", "organization_id": "o", "user_id": "u",
            "environment": "local",
            "module_run_api_key": "hla_runtoken_cold", "platform_api_base_url": server.endpoint,
        }  # fmt: skip
        (work / "context.json").write_text(json.dumps(context))
        (work / "input.json").write_text("{}")
        env = {
            "PATH": os.environ["PATH"], "HOME": str(work), "HLA_COMPASS_WORKDIR": str(work), "PYTHONUNBUFFERED": "1",
            "HLA_COMPASS_MODULE": "backend.main:Noop", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "HLA_COMPASS_LOG_FORMAT": "json", "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
        }  # fmt: skip
        started = time.perf_counter()
        command = [sys.executable, "-m", "hla_compass.runtime.runner"]
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
        assert json.loads((work / "output.json").read_text())["status"] == "success"
    return seconds


def cpu_seconds(pid: int) -> float:
    """CPU time of one process so far, its children not included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Server(root) as server:
            warm, metrics = latency(server, args.count)
            server_before, ours_before = cpu_seconds(server.process.pid), time.process_time()
            rate, runs, wrong = sustained(server, args.clients, args.seconds)
            server_cpu = cpu_seconds(server.process.pid) - server_before
            client_cpu = time.process_time() - ours_before
            cold_runs = cold(server, root, args.cold)
    phases = sorted({name for item in metrics for name in item if name.endswith("Seconds")})
    return {
        "warm_p50_ms": statistics.median(warm) * 1e3,
        "warm_p95_ms": quantile(warm, 0.95) * 1e3,
        "cold_p50_ms": statistics.median(cold_runs) * 1e3,
        "ratio": statistics.median(cold_runs) / statistics.median(warm),
        "runs_per_second": rate,
        "runs": runs,
        "lost_or_doubled": wrong,
        "server_cpu_ms_per_run": server_cpu / runs * 1e3,
        "client_cpu_ms_per_run": client_cpu / runs * 1e3,
        "phases_ms": {name: statistics.median(item.get(name, 0) for item in metrics) * 1e3 for name in phases},
        "peak_memory_mib": statistics.median(item.get("peakMemoryBytes", 0) for item in metrics) / 1024**2,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="Runs for the latency.")
    parser.add_argument("--cold", type=int, default=10, help="Cold runs.")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args)
    if args.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>22}  {value:.2f}" if isinstance(value, float) else f"{name:>22}  {value}")


if __name__ == "__main__":
    main()
