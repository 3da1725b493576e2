"""Runs on a Dask cluster: real scheduler, workers and devkit, each a process, on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from devkit_api.execution.cluster.scheduler import WITHOUT_TLS
from devkit_api.execution.isolation import Level, probe_level
from tests.support.cluster import Cluster, DaskProcess
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, free_port, until

pytestmark = pytest.mark.process

ECHO = """
import os, sys
for number in range(input_data.get("lines", 0)):
    print(f"line {number}")
print("to stderr", file=sys.stderr)
self.storage.save_json("note.json", {"kept": input_data["word"]})
self.report_progress(40, "saved")
return self.success(results={
    "word": input_data["word"], "folder": os.environ["HLA_COMPASS_WORKDIR"], "devkit": sorted(os.environ),
    "devkit_url": context["platform_api_base_url"], "saved": self.storage.create_download_url("note.json"),
    "large": "x" * input_data.get("size", 0),
})
"""
# Its own process group and a child in another session: both have to go.
ENDLESS = """
import subprocess, time
print("began", flush=True)
child = subprocess.Popen(["sleep", input_data["mark"]], start_new_session=True)
print("working", flush=True)
time.sleep(3600)
"""
GREEDY = """
import pathlib, time
for number in range(400):
    pathlib.Path(f"file-{number}").touch()
time.sleep(3600)
"""
CUT_OFF = """
import socket
self.storage.save_text("note.txt", "kept")
return self.success(results={"interfaces": [name for _, name in socket.if_nameindex()],
                             "kept": self.storage.load_text("note.txt")})
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster-modules")
    write_module(folder / "echo", ECHO)
    write_module(folder / "endless", ENDLESS)
    write_module(folder / "greedy", GREEDY)
    write_module(folder / "cut-off", CUT_OFF, network=False)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(2):
            cluster.add_worker()
        yield cluster


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, modules: Path) -> Iterator[DevkitProcess]:
    settings = {"executor": "dask", "dask_scheduler": cluster.address, "max_work_files": 100, "shutdown_grace": 1}
    with DevkitProcess(tmp_path_factory.mktemp("devkit"), modules, **settings) as devkit:
        has_workers(devkit, 2)
        yield devkit


def has_workers(devkit: DevkitProcess, count: int) -> None:
    until(lambda: view(devkit)["workers"] == count and view(devkit)["slots"] > 0)


def view(devkit: DevkitProcess) -> dict[str, Any]:
    found: dict[str, Any] = devkit.request("GET", "/v1/system/health").json()["details"]["cluster"]
    return found


def messages(devkit: DevkitProcess, run: dict[str, Any]) -> list[str]:
    found: list[str] = []
    path = f"/v1/module-runs/{run['runId']}/logs?limit=1000"
    token = ""
    while events := (page := devkit.request("GET", path + token).json())["events"]:
        found += [event["message"] for event in events]
        token = f"&nextToken={page['nextForwardToken']}"
    return found


def result(devkit: DevkitProcess, run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]
    return found


def completes(devkit: DevkitProcess, module: str = "echo", **parameters: Any) -> dict[str, Any]:
    run = devkit.wait(devkit.run(module, {"word": "yes", **parameters})["runId"])
    assert run["status"] == "completed", (run["error"], messages(devkit, run))
    return run


def mark_of(number: int) -> str:
    """Seconds to sleep that no other process of this machine sleeps, a second one of these tests included."""
    return f"{os.getpid()}{number:04}"


def begin_endless(devkit: DevkitProcess, mark: str) -> dict[str, Any]:
    """A run that prints, and then goes on until it is ended. Its output is there while it runs."""
    run = devkit.run("endless", {"mark": mark})
    until(lambda: "working" in messages(devkit, run))
    assert devkit.request("GET", f"/v1/module-runs/{run['runId']}").json()["status"] == "running"
    assert processes(mark)
    return run


def processes(mark: str) -> list[int]:
    """Those with this mark in their arguments, wherever they are on the machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == f"sleep\0{mark}\0".encode():
                found.append(int(path.parent.name))
    return found


def is_ended(mark: str) -> None:
    until(lambda: not processes(mark))


def top_up(cluster: Cluster, devkit: DevkitProcess, count: int) -> None:
    """Workers in the place of those that other tests have cost. There may be more, when those have not run."""
    alive = sum(worker.process is not None for worker in cluster.workers)
    for _ in range(count - alive):
        cluster.add_worker()
    has_workers(devkit, max(alive, count))


def worker_of(cluster: Cluster, mark: str) -> DaskProcess:
    """The worker whose process the marked one comes from, some generations up."""
    pid = processes(mark)[0]
    parents = set()
    while pid > 1:
        parents.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return next(worker for worker in cluster.workers if worker.process and worker.process.pid in parents)


def test_a_run_has_all_it_needs_at_its_worker(cluster: Cluster, devkit: DevkitProcess) -> None:
    run = completes(devkit, word="peptide", lines=4000, size=3 * 1024**2)
    found = result(devkit, run)
    assert found["word"] == "peptide"
    assert "/worker-" in found["folder"]
    assert not [name for name in found["devkit"] if name.startswith(("DEVKIT_", "DASK_"))]
    assert len(found["large"]) == 3 * 1024**2
    lines = [text for text in messages(devkit, run) if text.startswith("line ")]
    assert lines == [f"line {number}" for number in range(4000)]
    assert "to stderr" in messages(devkit, run)
    files = devkit.request("GET", f"/v1/module-runs/{run['runId']}/files").json()
    assert "note.json" in str(files)
    assert run["progress"]["percent"] == 40
    assert run["metrics"]["exitCode"] == 0
    assert run["metrics"]["executeSeconds"] > 0
    assert run["metrics"]["peakMemoryBytes"] > 10 * 1024**2


def test_the_second_run_finds_module_and_source_at_the_worker(cluster: Cluster, devkit: DevkitProcess) -> None:
    runs = [completes(devkit) for _ in range(4)]  # of two workers, one has it twice
    assert any(run["metrics"]["warm"] for run in runs)
    sources = {path for worker in cluster.workers for path in bundles(cluster, worker)}
    assert sources
    assert len({(path.parents[1], path.name) for path in sources}) == len(sources)


def bundles(cluster: Cluster, worker: DaskProcess) -> list[Path]:
    # Not by way of all that is there: folders of runs come and go.
    return list(worker.folder.glob("*/*/hla-compass-devkit/*/bundles/[0-9a-f][0-9a-f]/*"))


def test_what_the_devkit_shows_of_the_cluster(devkit: DevkitProcess, cluster: Cluster) -> None:
    top_up(cluster, devkit, 2)
    health = devkit.request("GET", "/v1/system/health").json()
    assert health["services"]["scheduler"] == "ok"
    assert health["details"]["cluster"] == {
        "scheduler": cluster.address, "connected": True, "workers": 2, "slots": 2, "executing": 0
    }  # fmt: skip
    page = devkit.request("GET", "/metrics").text
    assert "devkit_run_workers 2.0" in page
    assert "devkit_cluster_workers 2.0" in page
    assert "devkit_cluster_connected 1.0" in page
    command = [sys.executable, "-m", "devkit_api", "doctor", "--json"]
    environment = devkit.environment()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    checks = {check["name"]: check for check in json.loads(ran.stdout)["checks"]}
    assert checks["Dask scheduler"] == {
        "name": "Dask scheduler", "state": "warn",
        "text": f"{cluster.address}: 2 workers, 2 runs at a time; {WITHOUT_TLS}",
    }  # fmt: skip
    assert WITHOUT_TLS in devkit.log_text()


def test_cancel_ends_the_whole_group_at_the_worker(devkit: DevkitProcess) -> None:
    run = begin_endless(devkit, mark_of(1))
    devkit.request("POST", f"/v1/module-runs/{run['runId']}/cancel")
    assert devkit.wait(run["runId"])["status"] == "cancelled"
    is_ended(mark_of(1))
    assert completes(devkit)


def test_limits_hold_at_the_worker(devkit: DevkitProcess) -> None:
    late = devkit.run("endless", {"mark": mark_of(2)}, maxRuntimeSeconds=1)
    full = devkit.wait(devkit.run("greedy")["runId"])
    assert (full["status"], full["error"]["code"]) == ("failed", "RUN_DISK_LIMIT")
    assert "100 files" in full["error"]["details"]["found"]
    late = devkit.wait(late["runId"])
    assert (late["status"], late["error"]["code"]) == ("timed_out", "RUN_TIMED_OUT")
    is_ended(mark_of(2))


def test_a_module_without_network_reaches_the_devkit_alone(devkit: DevkitProcess, tmp_path: Path) -> None:
    if probe_level(wanted="auto", state_dir=tmp_path) not in (Level.NAMESPACES, Level.CONTAINED):
        pytest.skip("this machine gives this user no namespaces")
    assert result(devkit, completes(devkit, "cut-off")) == {"interfaces": ["lo"], "kept": "kept"}


def test_a_ticket_that_was_not_issued_lets_nobody_in(devkit: DevkitProcess) -> None:
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "X-Devkit-Ticket": "made-up",
    }  # fmt: skip
    refused = devkit.request("GET", "/v1/cluster/attach", key=None, headers=handshake)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "TICKET_INVALID")
    plain = devkit.request("GET", "/v1/cluster/attach", key=None)
    assert (plain.status_code, plain.json()["error"]["code"]) == (400, "BAD_REQUEST")


def test_a_devkit_that_is_killed_leaves_no_run_behind(devkit: DevkitProcess) -> None:
    run = begin_endless(devkit, mark_of(3))
    devkit.kill()
    is_ended(mark_of(3))
    devkit.start()
    settled = devkit.wait(run["runId"])
    assert (settled["status"], settled["error"]["code"]) == ("failed", "RUN_INTERRUPTED")
    assert completes(devkit)


def test_a_worker_that_is_killed_costs_its_run_and_no_other(cluster: Cluster, devkit: DevkitProcess) -> None:
    top_up(cluster, devkit, 2)
    lost = begin_endless(devkit, mark_of(4))
    victim = worker_of(cluster, mark_of(4))
    other = begin_endless(devkit, mark_of(5))
    waiting = devkit.run("echo", {"word": "later"})
    victim.stop(signal.SIGKILL)
    lost = devkit.wait(lost["runId"])
    assert (lost["status"], lost["error"]["code"]) == ("failed", "RUN_WORKER_LOST")
    is_ended(mark_of(4))
    has_workers(devkit, 1)
    devkit.request("POST", f"/v1/module-runs/{other['runId']}/cancel")
    assert devkit.wait(waiting["runId"])["status"] == "completed"
    # Dask has had the lost one again by now, and given it to the worker that is left.
    assert messages(devkit, lost).count("began") == 1
    assert not processes(mark_of(4))


def test_a_devkit_that_stops_ends_its_runs_at_the_workers(devkit: DevkitProcess) -> None:
    run = begin_endless(devkit, mark_of(6))
    assert devkit.stop() == 0
    assert not processes(mark_of(6))
    assert "told to stop" not in devkit.log_text()  # the worker has answered in time
    devkit.start()
    settled = devkit.request("GET", f"/v1/module-runs/{run['runId']}").json()
    assert (settled["status"], settled["error"]["code"]) == ("failed", "RUN_INTERRUPTED")


def test_a_worker_that_stops_in_order_ends_its_run(cluster: Cluster, devkit: DevkitProcess) -> None:
    top_up(cluster, devkit, 1)
    run = begin_endless(devkit, mark_of(8))
    worker_of(cluster, mark_of(8)).stop(signal.SIGTERM)
    ended = devkit.wait(run["runId"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "RUN_WORKER_LOST")
    is_ended(mark_of(8))


def test_runs_wait_at_the_cluster_for_workers_to_come(
    cluster: Cluster, make_devkit: Callable[..., DevkitProcess], modules: Path, tmp_path: Path
) -> None:
    # One machine, but workers and modules have to come by the public address, as they would from another.
    port = free_port()
    public = f"http://127.0.0.2:{port}"
    with make_devkit(
        modules=modules, executor="dask", dask_scheduler=cluster.address, dask_resource="later", workers=2,
        host="0.0.0.0", port=port, public_url=public,
    ) as devkit:  # fmt: skip
        until(lambda: view(devkit)["slots"] == 2)  # as many as were asked for, whatever workers there are
        first, second, third = [devkit.run("echo", {"word": str(number)}) for number in range(3)]
        until(lambda: view(devkit)["executing"] == 2)
        devkit.request("POST", f"/v1/module-runs/{first['runId']}/cancel")
        assert devkit.wait(first["runId"])["status"] == "cancelled"
        # One that lacks the package cannot do it, says so, and goes on with what it is there for.
        without = tmp_path / "without.py"
        without.write_text("import sys\nsys.modules['devkit_api'] = None\n")
        worker = cluster.add_worker("--resources", "later=1", "--preload", str(without))
        failed = devkit.wait(second["runId"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "RUN_NOT_STARTED")
        assert "its workers need hla-compass-devkit[dask]" in failed["error"]["details"]["reason"]
        assert devkit.wait(third["runId"])["status"] == "failed"
        assert worker.process
        assert worker.process.poll() is None
        worker.stop()
        third = devkit.run("echo", {"word": "2"})
        worker = cluster.add_worker("--resources", "later=1")
        found = result(devkit, devkit.wait(third["runId"]))
        assert (found["word"], found["devkit_url"]) == ("2", public)
        assert found["saved"].startswith(public)
    worker.stop()


def dask_over_tls(tls: dict[str, str]) -> dict[str, str]:
    """Dask's own settings, as variables: whoever takes part has a certificate of the one authority."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    parts = {
        f"{prefix}TLS__{role}__{what}": tls[file]
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for what, file in (("CERT", "cert.pem"), ("KEY", "key.pem"))
    }
    return {f"{prefix}REQUIRE_ENCRYPTION": "true", f"{prefix}TLS__CA_FILE": tls["ca.pem"], **parts}


def test_runs_outlast_a_scheduler_over_tls(
    make_devkit: Callable[..., DevkitProcess],
    modules: Path,
    tmp_path: Path,
    tls: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secure = dask_over_tls(tls)
    for name, value in {**secure, "REQUESTS_CA_BUNDLE": tls["ca-bundle.pem"]}.items():
        monkeypatch.setenv(name, value)
    with Cluster(tmp_path / "cluster", free_port(), "--protocol", "tls", environment=secure) as cluster:
        cluster.add_worker("--resources", "devkit=3", nanny=True)  # as workers usually are
        address = cluster.address
        assert address.startswith("tls://")
        with make_devkit(
            modules=modules, executor="dask", dask_scheduler=address, dask_resource="devkit",
            tls_cert=tls["cert.pem"], tls_key=tls["key.pem"],
        ) as devkit:  # fmt: skip
            has_workers(devkit, 1)
            assert view(devkit)["slots"] == 3
            completes(devkit)
            run = begin_endless(devkit, mark_of(7))
            cluster.scheduler.stop(signal.SIGKILL)
            lost = devkit.wait(run["runId"])
            assert (lost["status"], lost["error"]["code"]) == ("failed", "RUN_SCHEDULER_LOST")
            is_ended(mark_of(7))
            until(lambda: not view(devkit)["connected"])
            assert devkit.request("GET", "/v1/system/ready").json()["missing"] == {"scheduler": "unavailable"}
            waiting = devkit.run("echo", {"word": "patient"})
            assert waiting["status"] == "queued"
            cluster.restart_scheduler()
            cluster.add_worker("--resources", "devkit=1")
            assert devkit.wait(waiting["runId"])["status"] == "completed"
            until(lambda: devkit.request("GET", "/v1/system/ready").status_code == 200)
        # Dask's own lines are among them: all are the devkit's form, and none is a traceback.
        lines = [json.loads(line) for line in devkit.log_lines()]
        assert not [line for line in lines if "exc_info" in line]
        assert WITHOUT_TLS not in devkit.log_text()
