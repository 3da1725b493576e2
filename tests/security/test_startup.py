"""What keeps the devkit from starting, and the script that makes secrets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devkit_api.settings import SettingsError, load_settings
from tests.support.process import REPO
from tests.support.waiting import PATIENCE

SECRET = "a-Fake-0123456789-secret-of-tests"
DATABASE = {"DEVKIT_DB_HOST": "db.example", "DEVKIT_DB_PASSWORD": SECRET}
OBJECTS = {
    "DEVKIT_S3_ENDPOINT": "http://127.0.0.1:9", "DEVKIT_S3_ACCESS_KEY": "objects-of-anna",
    "DEVKIT_S3_SECRET_KEY": SECRET,
}  # fmt: skip
BAD = ("", "postgres", "minioadmin", "password", "admin", "CHANGE_ME", "CHANGE_ME_please_0123456789", "change-me",
       "<your secret here, long>", "your-secret-0123456789", "minioadmin123", "password1234567890")  # fmt: skip


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("DB_PASSWORD", DATABASE), ("S3_SECRET_KEY", OBJECTS), ("S3_ACCESS_KEY", OBJECTS), ("API_KEY", {}),
        ("JWT_SECRET", {}), ("DB_USER", DATABASE),
    ],
)  # fmt: skip
def test_insecure_values_are_refused_with_variable_reason_and_fix(
    tmp_path: Path, name: str, others: dict[str, str], value: str
) -> None:
    good = {"DEVKIT_STATE_DIR": str(tmp_path), **others}
    load_settings(good)
    if name == "DB_USER" and not value:
        return  # empty is unset, and the default is no well-known account
    with pytest.raises(SettingsError) as refused:
        load_settings({**good, f"DEVKIT_{name}": value})
    [problem] = refused.value.problems
    assert problem.variable == f"DEVKIT_{name}"
    assert problem.reason
    assert f"DEVKIT_{name}=" in problem.fix


@pytest.mark.process
def test_a_start_with_bad_values_ends_with_code_1_and_names_them_all(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
    environment |= {"PYTHONPATH": str(REPO), "DEVKIT_STATE_DIR": str(tmp_path / "s"), "DEVKIT_HOST": "0.0.0.0"}
    environment |= {"DEVKIT_DB_HOST": "db.example", "DEVKIT_DB_PASSWORD": "postgres", "COLUMNS": "200"}
    ended = subprocess.run(
        [sys.executable, "-m", "devkit_api"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    for word in ("DEVKIT_API_KEY", "DEVKIT_DB_PASSWORD", "openssl rand"):
        assert word in ended.stdout + ended.stderr
    assert not (tmp_path / "s").exists()


def init(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(REPO / "scripts" / "init-dev.sh"), str(file)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, umask=0o000,
    )  # fmt: skip


def values(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("backend", ["json", "postgres"])
def test_a_devkit_that_waits_for_its_database_can_be_stopped(tmp_path: Path, backend: str) -> None:
    """The database takes the connection, and says nothing: the devkit would wait for it, and then call it wrong."""
    environment = {
        **os.environ, **DATABASE, "DEVKIT_DB_HOST": "127.0.0.1", "DEVKIT_STATE_DIR": str(tmp_path / "state"),
        "DEVKIT_PORT": "0", "DEVKIT_STATE_BACKEND": backend, "PYTHONPATH": str(REPO),
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(PATIENCE)
        environment["DEVKIT_DB_PORT"] = str(database.getsockname()[1])
        with subprocess.Popen(
            [sys.executable, "-m", "devkit_api"], env=environment, cwd=tmp_path, text=True, stderr=subprocess.PIPE
        ) as devkit:
            try:
                with database.accept()[0]:
                    devkit.terminate()
                    told = devkit.communicate(timeout=PATIENCE)[1]
            finally:
                devkit.kill()
    assert devkit.returncode == 0, told
    assert "Traceback" not in told


def test_the_script_makes_good_secrets_once_and_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / ".env.devkit"
    assert init(file).returncode == 0
    made = values(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(set(made.values())) == len(made) == 5
    settings = load_settings({**DATABASE, **OBJECTS, **made, "DEVKIT_STATE_DIR": str(tmp_path)})
    assert settings.api_key == made["DEVKIT_API_KEY"]
    before = file.read_bytes()
    again = init(file)
    assert (again.returncode, file.read_bytes()) == (0, before)
    assert all(value not in again.stdout for value in made.values())


def test_the_script_adds_what_is_missing_and_changes_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / ".env.devkit"
    file.write_text("DEVKIT_API_KEY=mine-and-kept\n# a note\nOTHER=1")
    file.chmod(0o644)
    assert init(file).returncode == 0
    assert file.read_text().startswith("DEVKIT_API_KEY=mine-and-kept\n# a note\nOTHER=1\n")
    assert values(file)["DEVKIT_API_KEY"] == "mine-and-kept"
    assert file.read_text().count("DEVKIT_API_KEY=") == 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_script_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("kept")
    (tmp_path / "link").symlink_to(target)
    refused = init(tmp_path / "link")
    assert refused.returncode == 1
    assert "plain file" in refused.stderr
    assert target.read_text() == "kept"


def test_git_ignores_what_holds_secrets() -> None:
    # A wheel's tests, or an archive of the sources: there is nothing for git to ignore. Build machines have a clone.
    if not (REPO / ".git").exists():
        pytest.skip("no git work tree")
    for name in (".env.devkit", ".env", ".devkit/credentials.env"):
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=REPO, check=False).returncode == 0, name
