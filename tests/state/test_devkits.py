"""Devkits whose documents are in PostgreSQL: the main job, a crash, a standby, a devkit that was taken over."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit_api.database.embedded import EmbeddedPostgres
from tests.catalogs.conftest import sdk_client
from tests.state.conftest import asking, target_of
from tests.state.test_postgres import LOCKED_BY, end_sessions
from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, free_port, until
from tests.test_kill_nine import TERMINAL, Posting, _runs

pytestmark = pytest.mark.process

Make = Callable[..., DevkitProcess]
# Not those of the server itself, which only its superuser may end.
SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
SQL = "/v1/api/data/alithea-bio/immunopeptidomics/query"
SAVER = """
self.storage.save_json("table.json", {"n": input_data["n"]})
print("a line of the log")
return self.success(results={"n": input_data["n"] + 1, "long": "x" * 5000})
"""


@pytest.fixture(scope="module")
def modules(folder: Path) -> Path:
    """`saver` does the main job, `sleeper` and `quick` are for crashes."""
    write_module(folder / "modules" / "saver", SAVER)
    write_module(folder / "modules" / "sleeper", "import time\ntime.sleep(600)\nreturn self.success(results={})")
    write_module(folder / "modules" / "quick", "return self.success(results={})")
    return folder / "modules"


def command(devkit: DevkitProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments], env=devkit.environment() | {"COLUMNS": "200"},
        cwd=devkit.root, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_the_main_job_in_the_embedded_server(
    make_devkit: Make, modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devkit = make_devkit(modules=modules, state_backend="postgres", max_stored_runs=2).start()
    client = sdk_client(devkit, tmp_path, monkeypatch)
    for n in range(3):
        run_id = client.start_module_run("saver", parameters={"n": n}, mode="async")["runId"]
        assert client.wait_for_module_run(run_id, timeout=PATIENCE, poll_interval=0.1)["status"] == "completed"
    until(lambda: devkit.request("GET", "/v1/module-runs").json()["pagination"]["total"] == 2)
    assert not list((devkit.state / "runs").rglob("*")), "no document is a file"
    health = devkit.request("GET", "/v1/system/health").json()
    assert health["details"]["state"] == {"backend": "postgres", "epoch": 1, "lost": None}
    until(lambda: devkit.request("GET", "/v1/system/health").json()["services"]["state"] == "ok")
    assert 'pool="stateWrites"' in devkit.request("GET", "/metrics").text
    left = devkit.request("GET", "/v1/module-runs").json()["runs"]

    devkit.kill()
    file = tmp_path / "devkit.tar.gz"
    exported = command(devkit, "export", str(file), "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["documents"] == {"modules": 3, "runs": 2}

    devkit.settings["state_backend"] = "json"
    with pytest.raises(AssertionError, match="are in PostgreSQL"):
        devkit.start()
    devkit.settings["state_backend"] = "postgres"
    shutil.rmtree(devkit.state)
    again = command(devkit, "import", str(file))
    assert again.returncode == 0, again.stderr
    with devkit.start():
        result = devkit.request("GET", f"/v1/module-runs/{left[0]['runId']}/result").json()
        assert len(result["data"]["results"]["long"]) == 5000
        assert devkit.wait(devkit.run("saver", {"n": 9})["runId"])["status"] == "completed"
        assert devkit.request("POST", "/v1/devkit/reset").status_code == 200
        assert devkit.request("GET", "/v1/module-runs").json()["pagination"]["total"] == 0
        target = EmbeddedPostgres(devkit.state / "postgres").target
        with asking(target) as ask:
            assert ask("SELECT count(*) FROM devkit_state.documents WHERE collection = 'runs'") == [(0,)]


def test_nothing_acknowledged_is_lost_by_kill_nine_or_lost_sessions(
    make_devkit: Make, modules: Path, database: dict[str, str]
) -> None:
    """Every session with the database is ended under load, as a restart does it in less time, and then the devkit."""
    devkit = make_devkit(
        modules=modules,
        state_backend="postgres",
        catalogs="on",
        workers=3,
        max_stored_runs=100_000,
        queue_limit=100_000,
        **database,
    ).start()
    assert devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("outside")}).status_code == 201
    for statement in ("SELECT * FROM devkit_state.documents", "SELECT 'devkit_state.owner'::regclass"):
        refused = devkit.request("POST", SQL, json={"sql": statement})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "SQL_REFUSED")
    acknowledged: dict[str, str] = {}
    for _ in range(2):
        posting = Posting(devkit.endpoint)
        try:
            assert posting.enough.wait(PATIENCE), posting.refused
            posting.listed.set()
            with asking(target_of(database)) as ask:
                end_sessions(ask, ask(SESSIONS))
            assert posting.more.wait(PATIENCE), posting.refused
        finally:
            devkit.kill()
            posting.finish()
        assert not posting.refused, "a lost session is opened again"
        assert not posting.doubled
        acknowledged |= posting.acknowledged
        devkit.start()
        after = _runs(devkit)
        assert acknowledged.keys() <= after.keys(), "an acknowledged run is gone"
        failed = [run for run in after.values() if run["status"] == "failed"]
        assert {run["error"]["code"] for run in failed} <= {"RUN_INTERRUPTED"}, devkit.log_text()
        for run in after.values():
            if run["moduleId"] == "sleeper" and run["status"] not in TERMINAL:
                devkit.request("POST", f"/v1/module-runs/{run['runId']}/cancel")
    for run_id, kind in acknowledged.items():
        if kind == "quick":
            assert devkit.wait(run_id)["status"] in {"completed", "failed"}
    assert devkit.stop() == 0


def stand_by(devkit: DevkitProcess) -> DevkitProcess:
    """Start it; it says who has the state, and where it listens is in its log."""
    devkit.root.mkdir(parents=True, exist_ok=True)
    devkit.log = (devkit.root / "server.log").open("a")
    devkit.process = subprocess.Popen(
        [sys.executable, "-m", "devkit_api", "serve"],
        env=devkit.environment(), cwd=devkit.root, stdout=subprocess.PIPE, stderr=devkit.log, text=True,
    )  # fmt: skip
    assert devkit.process.stdout is not None
    said = devkit.process.stdout.readline()
    assert "Standing by" in said, said + devkit.log_text()[-2000:]
    devkit.endpoint = f"http://127.0.0.1:{devkit.settings['port']}"
    return devkit


def until_ready(devkit: DevkitProcess) -> None:
    assert devkit.process is not None
    assert devkit.process.stdout is not None
    line = devkit.process.stdout.readline()
    assert "ready at" in line, line + devkit.log_text()[-4000:]
    until(lambda: devkit.request("GET", "/v1/system/ready").status_code == 200)


def test_a_standby_takes_over(make_devkit: Make, modules: Path, database: dict[str, str]) -> None:
    """Two devkits, one database and one state directory; each in turn is killed, stopped and frozen."""
    shared: dict[str, Any] = {"state_backend": "postgres", **database}
    first = make_devkit(modules=modules, port=free_port(), **shared).start()
    second = make_devkit(modules=modules, port=free_port(), **shared)

    ended = first.wait(first.run("saver", {"n": 1})["runId"])
    sleeping = first.run("sleeper")["runId"]
    until(lambda: first.request("GET", f"/v1/module-runs/{sleeping}").json()["status"] == "running")
    refused = command(second, "serve")
    assert refused.returncode == 1
    assert "another devkit is using" in refused.stderr, refused.stderr
    elsewhere = make_devkit("elsewhere", modules=modules, **shared)
    elsewhere.root.mkdir()
    refused = command(elsewhere, "serve")
    assert refused.returncode == 1
    assert "owns the state in the database" in refused.stderr
    assert "DEVKIT_STANDBY=on" in refused.stderr
    assert "Traceback" not in refused.stderr

    checked = json.loads(command(elsewhere, "doctor", "--json").stdout)["checks"]
    [seen] = [found for found in checked if found["name"] == "state in PostgreSQL"]
    assert first.process is not None
    assert f"process {first.process.pid}" in seen["text"]

    second.settings["standby"] = "on"
    stand_by(second)
    answer = second.request("GET", "/v1/system/ready")
    assert (answer.status_code, answer.json()["missing"]) == (503, {"server": "standby"})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Connection"] == "close"  # or a client would send its next request where nobody reads it
    assert second.request("GET", "/v1/system/health").json()["status"] == "standby"
    answer = second.request("POST", "/v1/module-runs", json={"moduleId": "saver"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STANDING_BY")
    assert command(second, "health", "--url", second.endpoint).returncode == 1

    first.kill()
    until_ready(second)
    assert second.request("GET", f"/v1/module-runs/{ended['runId']}/result").json()["data"]["results"]["n"] == 2
    interrupted = second.wait(sleeping)
    assert (interrupted["status"], interrupted["error"]["code"]) == ("failed", "RUN_INTERRUPTED")
    assert second.wait(second.run("saver", {"n": 5})["runId"])["status"] == "completed"

    # Frozen, and its session ended: the other one takes over, and it must not write when it wakes up.
    first.settings["standby"] = "on"
    assert second.process is not None
    stand_by(first)
    second.process.send_signal(signal.SIGSTOP)
    try:
        with asking(target_of(database)) as ask:
            end_sessions(ask, ask(LOCKED_BY))
            until(lambda: ask(LOCKED_BY))  # by the first one: it must not be the frozen one that is first
    finally:
        second.process.send_signal(signal.SIGCONT)
    assert second.process.wait(PATIENCE) == 1
    assert "has taken over" in second.log_text()
    assert "Traceback" not in second.log_text()
    second.stop()
    until_ready(first)
    assert first.wait(first.run("saver", {"n": 6})["runId"])["status"] == "completed"
    assert first.stop() == 0
