"""The pytest plugin, used as a module's author would."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devkit_api.testing import server
from tests.support.modules import write_module
from tests.support.process import REPO
from tests.support.waiting import PATIENCE

pytest_plugins = ["pytester"]
EXECUTE = """
print("counting")
self.storage.save_file("counts.txt", b"3")
return self.success(results={"n": len(input_data["peptides"])}, summary={"ok": True})
"""
TESTS = """
import pytest

def test_it_runs(devkit_module):
    result = devkit_module.run({"peptides": ["A", "B", "C"]})
    assert result.status == "completed", result.logs
    assert (result.results, result.summary) == ({"n": 3}, {"ok": True})
    assert result.files == {"counts.txt": b"3"}
    assert any("counting" in line for line in result.logs)

def test_what_fails_is_seen(devkit_module):
    assert devkit_module.run({}).status == "failed"

def test_settings_reach_the_server(devkit_server):
    assert "database" not in devkit_server.request("GET", "/v1/system/health").json()["services"]
    assert devkit_server.sdk_environment["HLA_API_ENDPOINT"] == devkit_server.endpoint

def test_refused_input_is_told(devkit_module):
    from devkit_api.testing.module import ModuleRefused
    with pytest.raises(ModuleRefused, match="REQUEST_INVALID"):
        devkit_module.run({}, nonsense=1)
"""
IN_PROCESS = """
async def test_modules_are_listed(devkit):
    answer = await devkit.get("/v1/modules")
    assert (await answer.json())["items"] == []
"""
ISOLATED = ("-p", "devkit_api.testing.plugin", "-p", "no:cacheprovider")


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *ISOLATED, f"--basetemp={folder}-pytest", *arguments],
        cwd=folder, env={"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin"}, check=False, capture_output=True,
        text=True, timeout=PATIENCE,
    )  # fmt: skip


def test_a_module_tests_itself(tmp_path: Path) -> None:
    module = write_module(tmp_path / "counter", EXECUTE)
    (module / "tests").mkdir()
    (module / "tests" / "test_module.py").write_text(TESTS)
    done = pytest_run(module, "-p", "no:asyncio", "-p", "no:aiohttp")
    assert re.search(r"4 passed", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_client_in_process(tmp_path: Path, mode: str) -> None:
    marked = "import pytest\npytestmark = pytest.mark.asyncio\n" if mode == "strict" else ""
    (tmp_path / "test_client.py").write_text(marked + IN_PROCESS)
    done = pytest_run(tmp_path, "-o", f"asyncio_mode={mode}")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_an_asyncio_plugin_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text("def test_it(devkit): pass\n")
    done = pytest_run(tmp_path, "-p", "no:asyncio", "-p", "no:aiohttp")
    assert done.returncode == 1
    assert "pip install pytest-aiohttp" in done.stdout


def test_a_test_without_module_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(devkit_module): pass\n")
    done = pytest_run(tmp_path, "-p", "no:asyncio", "-p", "no:aiohttp")
    assert "no manifest.json" in done.stdout


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    heavy = {'aiohttp', 'marshmallow', 'requests', 'devkit_api.app', 'devkit_api.cli'}\n"
        "    assert not heavy & sys.modules.keys()\n"
    )
    done = pytest_run(tmp_path, "-p", "no:asyncio", "-p", "no:aiohttp", "-p", "no:schemathesis")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_colours_and_a_narrow_terminal_do_not_change_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build machine's shell may ask every program for colours."""
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    with server.RunningDevkit({}) as devkit:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", devkit.endpoint)
        assert devkit.request("GET", "/v1/system/ready").status_code == 200


def test_a_devkit_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import signal\n\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPO}")
    monkeypatch.setattr(server, "_START_SECONDS", 0.5)
    with pytest.raises(server.DevkitDidNotStart, match=r"nothing within 0\.5 s"), server.RunningDevkit({}):
        pass


def test_it_is_an_entry_point() -> None:
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    # Named as the module, so that `-p devkit_api.testing.plugin` does not load it twice.
    points = config["options.entry_points"]["pytest11"].split()
    assert points == ["devkit_api.testing.plugin", "=", "devkit_api.testing.plugin"]
