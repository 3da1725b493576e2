"""The main job on a real server: register, run, watch, read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process


def test_module_in_the_watched_directory_runs_and_its_file_can_be_read(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    write_module(
        tmp_path / "mods" / "saver",
        """
        self.report_progress(40, "half way")
        uri = self.storage.save_json("out/table.json", {"n": input_data["n"]})
        print("a plain line")
        return self.success(results={"uri": uri, "n": input_data["n"] + 1}, summary={"n": input_data["n"]})
        """,
        inputs={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
    )
    with make_devkit(modules=tmp_path / "mods") as devkit:
        run = devkit.wait(devkit.run("saver", {"n": 1})["runId"])
        assert run["status"] == "completed", devkit.request("GET", f"/v1/module-runs/{run['runId']}/logs").text
        result = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
        assert result["data"]["results"]["n"] == 2
        assert result["data"]["results"]["uri"] == f"s3://hla-compass-devkit/runs/{run['runId']}/files/out/table.json"
        assert result["success"] is True
        messages = [
            e["message"] for e in devkit.request("GET", f"/v1/module-runs/{run['runId']}/logs").json()["events"]
        ]
        assert "a plain line" in messages
        assert run["progress"]["percent"] == 40
        assert not list((devkit.state / "work").iterdir())


def test_external_run_waits_for_its_backend(make_devkit: Callable[..., DevkitProcess]) -> None:
    from tests.support.modules import manifest

    with make_devkit() as devkit:
        answer = devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
        assert answer.status_code == 201, answer.text
        run = devkit.run("elsewhere")
        assert run["status"] == "queued"
        token = run["token"]
        path = f"/v1/module-runs/{run['runId']}"
        assert "token" not in devkit.request("GET", path).json()
        beat = devkit.request("POST", path + "/heartbeat", key=token, json={"progress": 10, "progressMessage": "on it"})
        assert beat.json()["status"] == "running"
        body = {"status": "completed", "summary": {"n": 1}, "result": {"status": "success", "results": {"n": 1}}}
        assert devkit.request("POST", path + "/complete", key=token, json=body).json()["status"] == "completed"
        assert devkit.request("POST", path + "/heartbeat", key=token).status_code == 401
        assert devkit.request("GET", path + "/result").json()["data"]["results"] == {"n": 1}


def test_sigterm_stops_in_order(make_devkit: Callable[..., DevkitProcess]) -> None:
    devkit = make_devkit().start()
    until(lambda: requests.get(devkit.endpoint + "/v1/system/ready", timeout=PATIENCE).status_code == 200)
    assert devkit.stop() == 0
    again = make_devkit().start()
    assert again.stop(2) == 0
