"""Which devkit the commands talk to, and what they say when it is not there or goes away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.modules import drop_module, write_module
from tests.support.process import REPO, TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

WAIT = """
import time
print("Grüße — läuft", flush=True)
time.sleep(600)
"""


LONG = "long/" * 20 + "name.txt"
GREET = """
print("Grüße — läuft")
self.storage.save_file("seen.txt", b"seen")
self.storage.save_file("LONG", b"long")
return self.success(results={})
""".replace("LONG", LONG)


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("which")
    write_module(root / "mods" / "greeter", GREET)
    with DevkitProcess(root / "here", root / "mods") as devkit:
        yield devkit


def command(devkit: DevkitProcess, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in the devkit's own directory."""
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE,
        cwd=devkit.root, env={**devkit.environment(), "PYTHONPATH": str(REPO), "COLUMNS": "200", **variables},
    )  # fmt: skip


def test_commands_say_which_devkit_they_talk_to(devkit: DevkitProcess) -> None:
    shown = command(devkit, "env")
    assert f"Devkit at {devkit.endpoint} (state in {devkit.state})" in shown.stderr
    assert f"HLA_API_ENDPOINT={devkit.endpoint}" in shown.stdout
    assert f"Devkit at {devkit.endpoint}\n" in command(devkit, "run", "greeter").stderr
    assert command(devkit, "run", "greeter", "--json").stderr == ""


def test_a_run_that_lacks_parameters_says_how_they_are_given(devkit: DevkitProcess) -> None:
    assert devkit.modules is not None
    inputs = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    drop_module(devkit.modules, "asking", inputs=inputs)
    until(lambda: devkit.request("GET", "/v1/modules/asking").status_code == 200)
    refused = command(devkit, "run", "asking")
    assert refused.returncode == 1
    assert "/word" in refused.stderr
    assert "--input FILE" in " ".join(refused.stderr.split())
    wrong = devkit.root / "wrong.json"
    wrong.write_text("{}")
    refused = command(devkit, "run", "asking", "--input", str(wrong))
    assert "INPUT_INVALID" in refused.stderr
    assert "--input FILE" not in refused.stderr


def test_run_warns_when_the_last_save_is_not_what_runs(devkit: DevkitProcess) -> None:
    assert devkit.modules is not None
    manifest = drop_module(devkit.modules, "edited") / "manifest.json"
    until(lambda: devkit.request("GET", "/v1/modules/edited").status_code == 200)
    assert "Warning" not in command(devkit, "run", "edited").stderr
    manifest.write_text("{")
    until(lambda: not devkit.request("GET", "/v1/modules/edited").json()["sourceStatus"]["ok"])
    ran = command(devkit, "run", "edited")
    assert ran.returncode == 0, ran.stderr
    assert "Warning" in ran.stderr
    assert "manifest.json" in ran.stderr
    assert "Warning" not in ran.stdout
    assert command(devkit, "run", "edited", "--json").stderr == ""


def test_a_devkit_named_in_the_shell_while_another_runs_here_is_warned_of(
    devkit: DevkitProcess, tmp_path: Path
) -> None:
    folder = write_module(tmp_path / "elsewhere")
    with DevkitProcess(tmp_path / "other") as other:
        variables = {"HLA_API_ENDPOINT": other.endpoint, "HLA_API_KEY": TEST_KEY}
        done = command(devkit, "register", str(folder), **variables)
    assert done.returncode == 0, done.stderr
    assert f"Devkit at {other.endpoint}" in done.stderr
    assert f"this directory's is at {devkit.endpoint}" in done.stderr
    same = command(devkit, "run", "greeter", HLA_API_ENDPOINT=devkit.endpoint, HLA_API_KEY=TEST_KEY)
    assert "Warning" not in same.stderr
    gone = command(devkit, "run", "greeter", **variables)
    assert gone.returncode == 1
    assert "unset HLA_API_ENDPOINT HLA_API_KEY" in gone.stderr


def test_followed_lines_keep_their_letters(devkit: DevkitProcess) -> None:
    done = command(devkit, "run", "greeter", "--follow", PYTHONIOENCODING="utf-8")
    assert "Grüße — läuft" in done.stderr.splitlines()


def test_a_followed_run_tells_the_module_s_lines_and_what_to_do_next(devkit: DevkitProcess) -> None:
    done = command(devkit, "run", "greeter", "--follow", PYTHONIOENCODING="utf-8")
    assert "File saved successfully: seen.txt" in done.stderr
    assert "telemetry" not in done.stderr
    run_id = done.stdout.split()[1]
    assert f"python -m devkit_api files {run_id} --save results" in done.stdout
    log = devkit.request("GET", f"/v1/module-runs/{run_id}/logs").text
    assert "API request telemetry" in log  # the log itself is whole


def test_files_are_listed_whole_and_copied(devkit: DevkitProcess, tmp_path: Path) -> None:
    run_id = command(devkit, "run", "greeter").stdout.split()[1]
    done = command(devkit, "files", run_id, "--save", str(tmp_path / "got"), COLUMNS="80")
    assert sorted(line.split("\t")[:2] for line in done.stdout.splitlines()) == [[LONG, "4"], ["seen.txt", "4"]]
    assert (tmp_path / "got" / LONG).read_bytes() == b"long"
    assert f"Saved in {tmp_path / 'got'}" in done.stderr


def test_a_devkit_that_stops_under_a_followed_run_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    write_module(tmp_path / "mods" / "waiter", WAIT)
    with DevkitProcess(tmp_path / "devkit", tmp_path / "mods") as devkit:
        following = subprocess.Popen(
            [sys.executable, "-m", "devkit_api", "run", "waiter", "--follow"], text=True, cwd=devkit.root,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**devkit.environment(), "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert following.stderr is not None
        while "läuft" not in (line := following.stderr.readline()):
            assert line, "the run never said it runs"
        devkit.kill()
        _, errors = following.communicate(timeout=PATIENCE)
    assert following.returncode == 1
    assert "stopped while devkit-run-" in errors
    assert "RUN_INTERRUPTED" in errors
    assert "Traceback" not in errors
    silent = command(devkit, "env")
    assert f"no devkit answers at {devkit.endpoint}" in silent.stderr
    assert "export HLA_API_ENDPOINT=" in silent.stdout
