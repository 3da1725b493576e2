"""The scans of `scripts/test.sh` find what they are for, and say so when they could not look."""

from __future__ import annotations

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import REPO


def script(name: str) -> Any:
    spec = spec_from_file_location(name, REPO / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [{"id": "PYSEC-0", "fix_versions": ["2"]}]}
SKIPPED = {"name": "odd", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "code"), [([GOOD], 0), ([GOOD, SKIPPED], 0), ([GOOD, BAD], 1), ([SKIPPED], 3), ([], 3), (None, 3)]
)
def test_an_audit_that_learnt_nothing_is_no_success(
    found: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = script("audit_dependencies")
    monkeypatch.setattr(audit, "audit", lambda: found)
    assert audit.main() == code
    said = capsys.readouterr().out
    assert ("not checked" in said) is (code == 3)
    assert ("PYSEC-0" in said) is (code == 1)


def test_secrets_are_found_in_the_tree_and_in_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t.example", "-c", "core.hooksPath=/dev/null"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def commit(text: str, name: str = "settings.py") -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", "x")

    scan = script("scan_secrets")
    monkeypatch.setattr(scan, "ROOT", tmp_path)
    key = "AKIA" + "QWERTYUIOPASDFGH"  # made up, and in two parts so that this file holds none
    git("init", "-q")
    commit("x = 1\n")
    assert scan.main() == 0
    commit(f"key = '{key}'\n", "tests/test_x.py")
    assert scan.main() == 1
    assert "tests/test_x.py:1" in capsys.readouterr().out
    commit("x = 1\n", "tests/test_x.py")
    assert scan.main() == 1  # gone from the tree, and still known
    said = capsys.readouterr().out
    assert "commit " in said
    assert key not in said
