"""`serve --reload`: the server starts again when its own code changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import requests

import devkit_api
from tests.support.modules import save
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process


def test_change_of_the_devkits_code_restarts_the_server_and_the_end_ends_both(tmp_path: Path) -> None:
    package = tmp_path / "code" / "devkit_api"
    shutil.copytree(Path(devkit_api.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    env = {**DevkitProcess(tmp_path / "devkit").environment(), "PYTHONPATH": str(package.parent), "DEVKIT_PORT": "0"}
    server = subprocess.Popen(
        [sys.executable, "-m", "devkit_api", "serve", "--reload"],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        first = _ready(server)
        version = requests.get(f"{first}/v1/system/version", timeout=PATIENCE).json()
        save(package / "__init__.py", '"""Changed."""\n__version__ = "9.9.9"\n', tmp_path)
        second = _ready(server)
        assert version != requests.get(f"{second}/v1/system/version", timeout=PATIENCE).json()
        assert "9.9.9" in requests.get(f"{second}/v1/system/version", timeout=PATIENCE).text
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=PATIENCE)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{second}/v1/system/ready", timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def _ready(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    while line := server.stdout.readline():
        if "ready at" in line:
            return line.split("ready at", 1)[1].strip()
    raise AssertionError("the server ended")
