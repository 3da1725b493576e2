"""The scripts do what the README says, from any directory, on a copy of this work tree."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit_api.runs.models import Run, RunStatus
from devkit_api.runs.repository import COLLECTION
from devkit_api.state.json_files import JsonFileStore
from tests.support.waiting import PATIENCE

REPO = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
COMMANDS = (
    "scripts/run.sh",
    "scripts/test.sh",
    "scripts/setup-dev.sh",
    "scripts/bench",
    "scripts/bandit.sh",
    ".ci/run",
)
SHELL = (
    *COMMANDS,
    "scripts/lib.sh",
    "scripts/init-dev.sh",
    "scripts/lock.sh",
    "scripts/make-cert.sh",
)
# Neither what a clone would not have, nor what other tests make and remove in the meantime.
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".devkit", ".hypothesis", "node_modules", "__pycache__", ".*_cache", "dist"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work tree under a name with a space, without what a clone would not have."""
    target = tmp_path_factory.mktemp("a clone") / "devkit"
    shutil.copytree(REPO, target, ignore=NOT_COPIED)
    return target


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A newcomer's shell, and this interpreter's environment instead of an installation."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_")) and k != "PYTHONPATH"}
    return {**kept, "USE_VENV": sys.prefix, "HLA_COMPASS_CONFIG_DIR": str(tmp_path / "sdk"), "COLUMNS": "200"}


@pytest.fixture
def serving(copy: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`run.sh` without `--once`, in a session of its own as in a terminal."""
    process = subprocess.Popen(
        [str(copy / "scripts/run.sh")], cwd=tmp_path, env={**environment, "DEVKIT_STATE_DIR": str(tmp_path / "state")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    yield process
    if process.poll() is None:
        process.kill()
    process.wait(timeout=PATIENCE)
    assert process.stdout is not None
    process.stdout.close()


def run(command: list[str], environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip


def server_pid(state: Path) -> int:
    return int((state / "lock").read_text())


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_every_shell_script_is_listed_here() -> None:
    found = {str(path.relative_to(REPO)) for path in (REPO / "scripts").glob("*.sh")}
    assert found <= set(SHELL)


def test_shellcheck_finds_nothing() -> None:
    done = run([str(BIN / "shellcheck"), "--external-sources", *SHELL], dict(os.environ), REPO)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_executable_and_strict(name: str) -> None:
    text = (REPO / name).read_text()
    assert os.access(REPO / name, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail\n" in text


@pytest.mark.process
def test_run_once_shows_a_real_run_and_leaves_nothing_running(
    copy: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    done = run([str(copy / "scripts/run.sh"), "--once"], environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        "completed in",
        "Analysing 57 peptides",
        "HLA-A*02:01",
        "peptides: 57",
        "/files/anchors.csv",
        "Done.",
    ):
        assert shown in done.stdout
    assert not is_alive(server_pid(copy / ".devkit"))


@pytest.mark.process
def test_a_failed_example_is_a_failed_command(copy: Path, environment: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(copy, broken, ignore=NOT_COPIED)
    main = broken / "templates/no-ui-template/backend/main.py"
    main.write_text(main.read_text().replace("given = self._collect(input_data)", "raise RuntimeError('no luck')"))
    done = run([str(broken / "scripts/run.sh"), "--once"], environment, tmp_path)
    assert done.returncode == 1
    assert "no luck" in done.stdout
    assert "did not complete" in done.stderr
    assert not is_alive(server_pid(broken / ".devkit"))


@pytest.mark.process
def test_run_serves_until_ctrl_c(serving: subprocess.Popen[str], tmp_path: Path) -> None:
    assert serving.stdout is not None
    lines = []
    for line in serving.stdout:
        lines.append(line)
        if "export HLA_API_KEY=" in line:
            break
    pid = server_pid(tmp_path / "state")
    assert is_alive(pid), "".join(lines)
    os.killpg(serving.pid, signal.SIGINT)
    assert serving.wait(timeout=PATIENCE) == 0
    assert not is_alive(pid)


@pytest.mark.process
def test_run_says_why_the_devkit_did_not_start(copy: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = run([str(copy / "scripts/run.sh"), "--once"], {**environment, "DEVKIT_WORKERS": "many"}, tmp_path)
    assert done.returncode == 1
    assert "DEVKIT_WORKERS" in done.stderr


@pytest.mark.parametrize("version", ["3.10", "3.14", ""])
def test_an_unfit_python_is_named_with_the_way_out(copy: Path, tmp_path: Path, version: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{'echo ' + version if version else 'exit 1'}\n")
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    done = run([str(copy / "scripts/run.sh"), "--once"], environment, tmp_path)
    assert done.returncode == 1
    assert "PYTHON=python3.12" in done.stderr
    assert not (copy / ".venv").exists()


def test_unknown_options_are_refused(copy: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = run([str(copy / "scripts/run.sh"), "--twice"], environment, tmp_path)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("what", "targets"),
    [
        ("list", ["≥ 0.75", "≥ 0.55"]),
        ("start", ["≤ 1.5 s", "≤ 90 MB"]),
    ],
)
def test_bench_measures(copy: Path, environment: dict[str, str], tmp_path: Path, what: str, targets: list[str]) -> None:
    command = [str(copy / "scripts/bench"), what, "--rounds", "1", "--seconds", "0.5", "--json"]
    done = run(command, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["target"] for row in rows] == targets
    assert all(min(row["values"].values()) > 0 for row in rows)


def test_bench_measures_the_sizes_that_the_targets_name(copy: Path) -> None:
    assert _said_in_bench(
        copy, "import bench_lib.__main__ as m; print({p.name: p.default for p in m.main.params}['stored'])"
    ) == ["100000"]


def test_bench_takes_the_largest_catalog_there_is(copy: Path, tmp_path: Path) -> None:
    for name in ("p10000", "p200000", "p1000000", "pile"):
        (tmp_path / name / "state" / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "p5000000").mkdir()
    asked = "from bench_lib.catalogs import size_of; from pathlib import Path; import sys; folder = Path(sys.argv[1])"
    said = _said_in_bench(
        copy, f"{asked}; print(size_of(None, folder), size_of(20_000, folder), size_of(None, None))", tmp_path
    )
    assert said == ["1000000", "20000", "100000"]


async def test_bench_stores_runs_as_the_devkit_does(copy: Path, tmp_path: Path) -> None:
    code = "from bench_lib.stored_runs import store_runs; from pathlib import Path; import sys"
    _said_in_bench(copy, f"{code}; store_runs(Path(sys.argv[1]), 30)", tmp_path)
    store = JsonFileStore(tmp_path)
    await store.open()
    found = [Run.from_document(document) async for _, document in store.scan(COLLECTION)]
    await store.close()
    assert len({run.run_id for run in found}) == 30
    assert {run.status for run in found} == {RunStatus.COMPLETED}


def _said_in_bench(copy: Path, code: str, *arguments: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": f"{copy}/scripts:{copy}"}
    done = run([sys.executable, "-c", code, *map(str, arguments)], environment, copy)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_commit_hook_catches_a_secret(tmp_path: Path) -> None:
    leak = tmp_path / "settings.py"
    marker = "PRIVATE KEY"
    leak.write_text(f"-----BEGIN RSA {marker}-----\nMIIEpAIBAAKCAQEA\n-----END RSA {marker}-----\n")
    config = (REPO / ".pre-commit-config.yaml").read_text()
    hook = next(line.split(":", 1)[1].split() for line in config.splitlines() if "detect-secrets-hook" in line)
    assert run([str(BIN / hook[0]), *hook[1:], str(leak)], dict(os.environ), tmp_path).returncode == 1
    leak.write_text("nothing = 'to see'\n")
    assert run([str(BIN / hook[0]), *hook[1:], str(leak)], dict(os.environ), tmp_path).returncode == 0
