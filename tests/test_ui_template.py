"""The page of the ui-template in a real browser, in front of a real devkit that executes its module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.process import REPO, TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, free_port

TEMPLATE = REPO / "templates" / "ui-template"
FRONTEND = TEMPLATE / "frontend"
CHROMIUM = os.environ.get("E2E_CHROMIUM") or shutil.which("chromium") or ""
EMAIL, PASSWORD = "ada@example.org", "a long pass phrase"


def node_version() -> tuple[int, ...]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return (0,)
    done = subprocess.run(["node", "--version"], check=False, capture_output=True, text=True, timeout=PATIENCE)
    return tuple(int(part) for part in done.stdout.strip().lstrip("v").split(".") if part.isdigit())


NEEDED = {
    "Node 20.19 or newer, with npm": node_version() >= (20, 19),
    "Chromium": bool(CHROMIUM),
    "node_modules (npm ci)": (FRONTEND / "node_modules").is_dir(),
    "the built page (npm run build)": (FRONTEND / "dist" / "bundle.standalone.js").is_file(),
}
MISSING = [name for name, is_there in NEEDED.items() if not is_there]
pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    # A browser and npm are much to ask of everybody. Build machines have them (`.ci/run`), and walk.
    pytest.mark.skipif(bool(MISSING), reason="missing: " + ", ".join(MISSING)),
]


class Restarter(ThreadingHTTPServer):
    """`POST` here and the devkit is killed, without warning, and started again on the same port."""

    def __init__(self, devkit: DevkitProcess) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                devkit.kill()
                devkit.start()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("ui")
    study = root / "study" / "melanoma"
    study.mkdir(parents=True)
    (study / "notes.txt").write_text("Eluted on Tuesday.\n")
    (study / "run-1.csv").write_text("peptide,intensity\nNLVPMVATV,812\nGILGFVFTL,77\nnot a peptide,1\n")
    (root / "study" / "peptides.txt").write_text("KLGGALQAK\nQYDPVAALF\n")
    modules = root / "modules"
    shutil.copytree(TEMPLATE, modules / "ui", ignore=shutil.ignore_patterns("node_modules", "__pycache__", ".*_cache"))
    # The port is the same after a restart.
    with DevkitProcess(root / "devkit", modules, data_roots=f"Study data={root / 'study'}", port=free_port()) as devkit:
        add = [sys.executable, "-m", "devkit_api", "users", "add", EMAIL, "--password-stdin"]
        subprocess.run(add, env=devkit.environment(), input=PASSWORD + "\n", text=True, check=True, capture_output=True)
        yield devkit


@pytest.fixture
def restarter(devkit: DevkitProcess) -> Iterator[Restarter]:
    with Restarter(devkit) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_every_walk_in_front_of_the_real_devkit(devkit: DevkitProcess, restarter: Restarter, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = ["npm", "run", "--silent", "test:e2e", "--", "--reporter=default", "--reporter=json"]
    done = subprocess.run(
        [*command, f"--outputFile.json={report}"],
        check=False, cwd=FRONTEND, capture_output=True, text=True, timeout=4 * PATIENCE,
        env={**os.environ, "E2E_BASE_URL": devkit.endpoint, "E2E_API_KEY": TEST_KEY, "E2E_EMAIL": EMAIL,
             "E2E_PASSWORD": PASSWORD, "E2E_CHROMIUM": CHROMIUM, "E2E_RESTART": restarter.url},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-12_000:]
    found = json.loads(report.read_text())
    assert found["numPendingTests"] == 0, "a walk was skipped"
    assert found["numPassedTests"] == found["numTotalTests"] > 20
