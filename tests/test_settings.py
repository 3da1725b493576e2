"""Settings: every wrong value told at once, secrets kept, and nothing else reads the environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import devkit_api
from devkit_api.security.credentials import FILE_NAME, load_credentials
from devkit_api.settings import SettingsError, load_settings, setting_infos, unknown_variables
from tests.support.process import REPO, TEST_KEY
from tests.support.waiting import PATIENCE

GOOD_SECRET = "a-Long-enough-fake-secret-4711-for-tests"


def _problems(**environ: str) -> dict[str, Any]:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"DEVKIT_{name}": value for name, value in environ.items()})
    for problem in caught.value.problems:
        assert problem.reason
        assert problem.fix
        assert str(problem).startswith(f"{problem.variable}: ")
    return {problem.variable.removeprefix("DEVKIT_"): problem for problem in caught.value.problems}


WRONG = {
    "HOST": "bad host",
    "PORT": "70000",
    "PUBLIC_URL": "ftp://x",
    "API_KEY": "short",
    "JWT_SECRET": "changeme",
    "CORS_ORIGINS": "*",
    "MAX_BODY_BYTES": "8 MB",
    "MAX_SOURCE_BYTES": "-1",
    "MAX_OBJECT_BYTES": "0",
    "RATE_LIMIT_READ": "fast",
    "RATE_LIMIT_WRITE": "0/second",
    "RATE_LIMIT_REFUSED": "off",
    "RATE_LIMIT_RUN": "5/day",
    "LOG_LEVEL": "LOUD",
    "LOG_FORMAT": "xml",
    "STATE_BACKEND": "redis",
    "MAX_STORED_RUNS": "0",
    "DB_PORT": "x",
    "DB_NAME": "a b",
    "DB_USER": "'; drop",
    "DB_PASSWORD": "postgres",
    "S3_ENDPOINT": "localhost:9000",
    "S3_SECRET_KEY": "minioadmin",
    "EXECUTOR": "slurm",
    "WORKERS": "0",
    "QUEUE_LIMIT": "1e3",
    "MAX_RUNTIME_SECONDS": "\u0661",
    "INTERACTIVE_TIMEOUT": "60",
    "SHUTDOWN_GRACE": "nan",
    "KEEP_WORKDIRS": "maybe",
    "ORG_ID": "../x",
    "USER_ID": "a/b",
}


def test_all_wrong_values_are_told_at_once() -> None:
    assert _problems(**WRONG).keys() == WRONG.keys()


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_value_is_told_with_a_fix_that_works(name: str) -> None:
    [problem] = _problems(**{name: WRONG[name]}).values()
    assert problem.variable == f"DEVKIT_{name}"
    assert f"export DEVKIT_{name}=" in problem.fix


def test_every_example_is_accepted(tmp_path: Path) -> None:
    for info in setting_infos().values():
        if not info.example.startswith("$("):
            info.parse(info.example)
    assert load_settings({}).port == 4100


def test_problems_between_settings_come_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = _problems(
        HOST="0.0.0.0",
        PORT="x",
        DB_HOST="db.example",
        S3_ENDPOINT="http://s3.example",
        EXECUTOR="dask",
        MODULES_DIR=str(tmp_path / "missing"),
        STATE_DIR=str(tmp_path / "file"),
    )
    between = {"API_KEY", "DB_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "DASK_SCHEDULER"}
    assert found.keys() == {"PORT", "MODULES_DIR", "STATE_DIR"} | between


def test_a_wrong_value_is_told_once() -> None:
    problems = _problems(HOST="0.0.0.0", API_KEY="changeme")
    assert "placeholder" in problems["API_KEY"].reason


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/x", "/proc/version/state"])
def test_an_unusable_state_directory_is_told(path: str) -> None:
    assert _problems(STATE_DIR=path).keys() == {"STATE_DIR"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab.example", "127.0.0.1.example.org"])
def test_other_addresses_need_a_key(host: str) -> None:
    assert _problems(HOST=host).keys() == {"API_KEY"}
    assert load_settings({"DEVKIT_HOST": host, "DEVKIT_API_KEY": GOOD_SECRET}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_key(host: str) -> None:
    assert load_settings({"DEVKIT_HOST": host}).is_loopback


BAD_SECRETS = [
    "", " ", "s-4711", "changeme", "change-me-please-now", "<your-api-key-goes-here>", "your-secret-key-here",
    "xxxxxxxxxxxxxxxxxxxxxxxx", "TODO-put-a-secret-here", "password", "minioadmin", "postgres",
    "aaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababab", "has a blank in the middle", "line\nbreak-4711-abcdef",
    "placeholder-secret-1234",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_SECRETS)
@pytest.mark.parametrize("name", ["API_KEY", "JWT_SECRET", "DB_PASSWORD", "S3_SECRET_KEY"])
def test_placeholders_and_weak_secrets_are_refused(name: str, value: str) -> None:
    [problem] = _problems(**{name: value}).values()
    assert not value.strip() or value not in str(problem)


@pytest.mark.parametrize("value", ["bwrap", "off"])
def test_isolation_asked_for_by_another_name_is_refused_with_ours(value: str) -> None:
    problem = _problems(SANDBOX=value)["SANDBOX"]
    assert "DEVKIT_ISOLATION" in problem.reason
    assert "export DEVKIT_ISOLATION=namespaces" in problem.fix


def test_unknown_variables_are_found() -> None:
    environ = {"DEVKIT_PORT": "1", "DEVKIT_PROT": "2", "DEVKIT_": "3", "OTHER": "4", "devkit_port": "5"}
    assert unknown_variables(environ) == ["DEVKIT_", "DEVKIT_PROT"]


# --- credentials ------------------------------------------------------------------------------------------------------


def _at(state: Path, **environ: str) -> Any:
    return load_settings({"DEVKIT_STATE_DIR": str(state), **environ})


def test_generated_credentials_are_private_and_stay(tmp_path: Path) -> None:
    settings = _at(tmp_path / "state")
    assert load_credentials(settings, create=False) is None
    old = os.umask(0)
    try:
        first = load_credentials(settings)
    finally:
        os.umask(old)
    path = tmp_path / "state" / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_credentials(settings) == load_credentials(settings, create=False) == first
    assert first is not None
    assert first.api_key not in repr(first)
    path.unlink()
    again = load_credentials(settings)
    assert again is not None
    assert again.api_key != first.api_key


def test_configured_secrets_are_not_written(tmp_path: Path) -> None:
    credentials = load_credentials(_at(tmp_path / "state", DEVKIT_API_KEY=GOOD_SECRET))
    assert credentials is not None
    assert credentials.api_key == GOOD_SECRET
    assert GOOD_SECRET not in (tmp_path / "state" / FILE_NAME).read_text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o610])
def test_credentials_others_can_touch_are_refused(tmp_path: Path, mode: int) -> None:
    settings = _at(tmp_path / "state")
    load_credentials(settings)
    path = tmp_path / "state" / FILE_NAME
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_credentials(settings)
    path.chmod(0o600)
    load_credentials(settings)


@pytest.mark.parametrize("content", [b"DEVKIT_API_KEY=short\n", b"DEVKIT_API_KEY=\n", b"DEVKIT_JWT_SECRET=\xff\xfe\n"])
def test_spoilt_credentials_are_refused(tmp_path: Path, content: bytes) -> None:
    settings = _at(tmp_path / "state")
    load_credentials(settings)
    (tmp_path / "state" / FILE_NAME).write_bytes(content)
    with pytest.raises(SettingsError, match="new ones are made"):
        load_credentials(settings)


# --- as a process -----------------------------------------------------------------------------------------------------


def _run(tmp_path: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
    env = {**base, "PYTHONPATH": str(REPO), "COLUMNS": "160", "DEVKIT_STATE_DIR": str(tmp_path / "state")}
    env |= {f"DEVKIT_{name}": value for name, value in environ.items()}
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *command],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("command", [["serve"], [], ["doctor"], ["env"]], ids=["serve", "none", "doctor", "env"])
def test_wrong_settings_end_every_command_with_advice(tmp_path: Path, command: list[str]) -> None:
    done = _run(tmp_path, *command, PORT="x", API_KEY="changeme", WORKERS="-1")
    assert done.returncode == 1
    for name in ("PORT", "API_KEY", "WORKERS"):
        [line] = [line for line in done.stderr.splitlines() if line.startswith(f"DEVKIT_{name}: ")]
        assert "Fix: export DEVKIT_" in line
    assert "Traceback" not in done.stderr
    assert "changeme" not in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.process
def test_serve_refuses_an_open_address_without_a_key(tmp_path: Path) -> None:
    done = _run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "DEVKIT_API_KEY: 0.0.0.0 is reachable from other machines" in done.stderr


@pytest.mark.process
def test_serve_refuses_credentials_others_can_read(tmp_path: Path) -> None:
    load_credentials(_at(tmp_path / "state"))
    (tmp_path / "state" / FILE_NAME).chmod(0o640)
    for command in ("serve", "doctor"):
        done = _run(tmp_path, command, PORT="0")
        assert done.returncode == 1
        assert "chmod 600" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.process
def test_doctor_masks_secrets_and_warns_of_misspelt_names(tmp_path: Path) -> None:
    done = _run(tmp_path, "doctor", API_KEY=TEST_KEY, JWT_SECRET=GOOD_SECRET, PROT="1")
    assert done.returncode == 0, done.stderr
    assert TEST_KEY not in done.stdout + done.stderr
    assert GOOD_SECRET not in done.stdout + done.stderr
    assert "********" in done.stdout
    assert "DEVKIT_PROT" in done.stdout
    done = _run(tmp_path, "doctor", "--json", API_KEY=TEST_KEY, PROT="1")
    report = json.loads(done.stdout)
    rows = {row["variable"]: row for row in report["settings"]}
    assert rows.keys() == {info.env for info in setting_infos().values()}
    assert rows["DEVKIT_API_KEY"] | {"help": ""} == {
        "variable": "DEVKIT_API_KEY", "value": "********", "source": "environment", "help": "",
    }  # fmt: skip
    assert rows["DEVKIT_PORT"]["source"] == "default"
    assert [check["name"] for check in report["checks"] if check["state"] == "warn"].count("DEVKIT_PROT") == 1
    done = _run(tmp_path, "doctor", "--json", PORT="x")
    assert json.loads(done.stdout)["problems"][0]["variable"] == "DEVKIT_PORT"
    assert done.returncode == 1


# --- nothing else reads the environment -------------------------------------------------------------------------------

_READERS = {"environ", "environb", "getenv", "getenvb"}
# The allow-list of what modules inherit, and the children themselves, whose environment is not the devkit's.
_ALLOWED = ("cli/", "settings/", "testing/", "execution/environment.py", "execution/zygote/")


def _reads_environment(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _READERS:
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "os" and _READERS & {a.name for a in node.names}:
            return True
    return False


def test_only_settings_and_the_command_line_read_the_environment() -> None:
    root = Path(devkit_api.__file__).parent
    readers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if _reads_environment(ast.parse(path.read_text()))
    }
    assert {name for name in readers if not name.startswith(_ALLOWED)} == set()
    assert readers, "the check finds nothing at all"
