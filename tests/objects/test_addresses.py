"""Behind a proxy: clients are told its address, and the processes of runs reach the server itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process

PROXY = "https://devkit.lab.example"
# Saves and reads a file as modules do, and reads it again at the address in the list of the run's files.
MODULE = """
import json, urllib.request
self.storage.save_file("kept.txt", b"kept")
self.report_progress(50, "saved")
kept = self.storage.load_text("kept.txt")
address = self._context.get("platform_api_base_url")
asked = urllib.request.Request(
    f"{address}/v1/module-runs/{self._context.get('run_id')}/files",
    headers={"X-API-Key": self._context.get("module_run_api_key")},
)
[file] = json.load(urllib.request.urlopen(asked, timeout=180))["files"]
listed = urllib.request.urlopen(file["url"], timeout=180).read().decode()
return self.success(results={"address": address, "kept": kept, "listed": listed})
"""


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("behind")
    write_module(root / "modules" / "keeper", MODULE)
    with DevkitProcess(root / "devkit", root / "modules", public_url=PROXY) as devkit:
        yield devkit


def test_a_run_reaches_the_devkit_itself_and_its_reader_the_proxy(behind: DevkitProcess) -> None:
    run = behind.wait(behind.run("keeper")["runId"])
    path = f"/v1/module-runs/{run['runId']}"
    assert run["status"] == "completed", behind.request("GET", f"{path}/logs").text
    found = behind.request("GET", f"{path}/result").json()["data"]["results"]
    assert found == {"address": behind.endpoint, "kept": "kept", "listed": "kept"}
    assert run["progress"]["percent"] == 50
    [file] = behind.request("GET", f"{path}/files").json()["files"]
    assert file["url"].startswith(f"{PROXY}/v1/objects/")


def test_a_backend_elsewhere_comes_through_the_proxy(behind: DevkitProcess) -> None:
    assert behind.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")}).status_code == 201
    run = behind.run("elsewhere")
    assert run["endpoint"] == PROXY
    asked = {"action": "put", "key": "a.txt", "contentLength": 0, "contentSha256": "A" * 43 + "="}
    granted = behind.request("POST", f"/v1/module-runs/{run['runId']}/storage", key=run["token"], json=asked)
    assert granted.json()["url"].startswith(f"{PROXY}/v1/objects/")


def test_commands_beside_the_devkit_do_without_the_proxy(behind: DevkitProcess) -> None:
    def said(*arguments: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "devkit_api", *arguments], env={**behind.environment(), "COLUMNS": "200"},
            cwd=behind.root, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    assert behind.address == PROXY
    assert said("health")[0] == "ready\n"
    lines, note = said("env")
    assert f"export HLA_API_ENDPOINT={PROXY}\n" in lines
    assert note.startswith(f"Devkit at {PROXY} "), "it is answering, though not by that name"
