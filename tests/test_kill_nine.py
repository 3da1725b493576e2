"""`kill -9` while clients post: nothing acknowledged is lost, doubled or left in a state that is not true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.modules import manifest, write_module
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROUNDS = 20
CLIENTS = 8
ENOUGH = 6  # acknowledged runs in a round before the runs are listed; after that external ones, which cost no worker
MORE = 20  # acknowledged meanwhile, before the kill comes between two answers
STATES = {"queued", "running", "cancel_requested", "completed", "failed", "cancelled", "timed_out"}
TERMINAL = {"completed", "failed", "cancelled", "timed_out"}
KINDS = ("quick", "sleeper", "outside")


class Posting:
    """Clients that post until they are told to stop, or the server is gone; what was acknowledged is noted."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}
        self.doubled: list[str] = []
        self.refused: list[str] = []
        self._later = 0
        self.enough, self.listed, self.more = threading.Event(), threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _post(self, number: int) -> None:
        with requests.Session() as session:
            session.headers["X-API-Key"] = TEST_KEY
            while not self._stop.is_set():
                if self.enough.is_set():
                    self.listed.wait(PATIENCE)
                kind = "outside" if self.enough.is_set() else KINDS[number % len(KINDS)]
                number += 1
                body = {"moduleId": kind, "parameters": {"n": number}, "mode": "async"}
                try:
                    answer = session.post(self._endpoint + "/v1/module-runs", json=body, timeout=PATIENCE)
                    status, run = answer.status_code, answer.json()
                except (requests.RequestException, ValueError):
                    return  # killed before it answered: not acknowledged
                with self._lock:
                    if status != 202:
                        self.refused.append(f"{status} {run}")
                        return
                    if run["runId"] in self.acknowledged:
                        self.doubled.append(run["runId"])
                    self.acknowledged[run["runId"]] = kind
                    if len(self.acknowledged) >= ENOUGH:
                        self.enough.set()
                    if self.listed.is_set():
                        self._later += 1
                    if self._later >= MORE:
                        self.more.set()

    def finish(self) -> None:
        self._stop.set()
        self.listed.set()
        for thread in self._threads:
            thread.join(timeout=PATIENCE)
            assert not thread.is_alive()


def _runs(devkit: DevkitProcess) -> dict[str, dict[str, Any]]:
    """Every run the server lists, by id; a run listed twice fails the test."""
    found: dict[str, dict[str, Any]] = {}
    page = 1
    while True:
        answer = devkit.request("GET", f"/v1/module-runs?limit=1000&order=asc&page={page}")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        for run in body["runs"]:
            assert run["runId"] not in found, f"{run['runId']} is listed twice"
            found[run["runId"]] = run
        if page >= body["pagination"]["pages"]:
            assert len(found) == body["pagination"]["total"]
            return found
        page += 1


def test_acknowledged_runs_survive_kill_nine(make_devkit: Callable[..., DevkitProcess], tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    mark = f'os.path.join({str(marks)!r}, context["run_id"])'
    note = f'import os, time\nwith open({mark}, "a") as file:\n    file.write("x")\n'
    write_module(tmp_path / "mods" / "quick", note + "return self.success(results={})")
    write_module(tmp_path / "mods" / "sleeper", note + "time.sleep(600)\nreturn self.success(results={})")
    settings = {
        "workers": 3, "max_stored_runs": 100_000, "queue_limit": 100_000, "max_runtime_seconds": 3600,
        "isolation": "process",  # the modules leave marks outside their work directory
    }  # fmt: skip
    devkit = make_devkit(modules=tmp_path / "mods", **settings).start()
    answer = devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("outside")})
    assert answer.status_code == 201, answer.text

    acknowledged: dict[str, str] = {}
    interrupted = 0
    ended: dict[str, tuple[str, Any]] = {}
    for _ in range(ROUNDS):
        posting = Posting(devkit.endpoint)
        try:
            assert posting.enough.wait(PATIENCE), posting.refused
            before = _runs(devkit)
            posting.listed.set()
            assert posting.more.wait(PATIENCE), posting.refused
        finally:
            devkit.kill()
            posting.finish()
        assert not posting.doubled
        assert not posting.refused
        acknowledged |= posting.acknowledged

        devkit.start()
        after = _runs(devkit)
        assert acknowledged.keys() <= after.keys(), "an acknowledged run is gone"
        assert {run["status"] for run in after.values()} <= STATES
        for run_id, run in after.items():
            was = before.get(run_id)
            if was is None:
                continue
            if was["status"] in TERMINAL:
                assert (run["status"], run["error"]) == (was["status"], was["error"]), "an ended run changed"
            elif was["status"] == "running":
                # It was executing, or ended between the list and the kill.
                assert run["status"] == "completed" or run["error"]["code"] == "RUN_INTERRUPTED", run
        for run_id, end in ended.items():
            assert (after[run_id]["status"], after[run_id]["finishedAt"]) == end, "an ended run changed"
        ended = {i: (run["status"], run["finishedAt"]) for i, run in after.items() if run["status"] in TERMINAL}
        interrupted = sum(1 for run in after.values() if run["status"] == "failed")
        for run in after.values():
            if run["status"] == "failed":
                assert run["error"]["code"] == "RUN_INTERRUPTED"
                assert run["finishedAt"]
        # Sleepers that wait would keep the workers for ever.
        for run in devkit.request("GET", "/v1/module-runs?limit=1000&moduleId=sleeper").json()["runs"]:
            if run["status"] == "queued":
                assert devkit.request("POST", f"/v1/module-runs/{run['runId']}/cancel").status_code == 200
        _keep_one_sleeper(devkit)

    assert interrupted, "no kill met an executing run: the test proved nothing"
    for run in _runs(devkit).values():
        if run["moduleId"] == "sleeper" and run["status"] not in TERMINAL:
            devkit.request("POST", f"/v1/module-runs/{run['runId']}/cancel")
    outside = [run_id for run_id, kind in acknowledged.items() if kind == "outside"]
    assert outside
    for run_id, kind in acknowledged.items():
        if kind != "outside":
            devkit.wait(run_id)
    final = _runs(devkit)
    assert all(final[run_id]["status"] == "queued" for run_id in outside), "an external run waits for its backend"
    quick = [final[run_id] for run_id, kind in acknowledged.items() if kind == "quick"]
    assert {run["status"] for run in quick} <= {"completed", "failed"}
    assert any(run["status"] == "completed" for run in quick)
    for path in marks.iterdir():
        # Empty: killed between making the file and writing to it.
        assert path.read_text() in {"", "x"}, f"{path.name} was executed twice"
    for run in quick:
        if run["status"] == "completed":
            assert (marks / run["runId"]).read_text() == "x", "completed without having been executed"
    assert devkit.stop() == 0


def _keep_one_sleeper(devkit: DevkitProcess) -> None:
    """At most one worker may sleep into the next round; the others must get on with the queue."""
    running = [
        run
        for run in devkit.request("GET", "/v1/module-runs?limit=1000&moduleId=sleeper").json()["runs"]
        if run["status"] == "running"
    ]
    for run in running[1:]:
        devkit.request("POST", f"/v1/module-runs/{run['runId']}/cancel")
