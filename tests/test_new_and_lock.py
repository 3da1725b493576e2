"""`new` and `lock` as a person uses them: processes, a watching devkit, the official CLI as the judge."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from devkit_api.cli.templates import new
from tests.support.process import REPO, DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

HLA_COMPASS = str(Path(sys.executable).with_name("hla-compass"))
TEMPLATES = {"ui": "anchor-motif-explorer", "no-ui": "epitope-anchors"}
LEFT_BEHIND = {"node_modules", "dist", "__pycache__", ".pytest_cache", ".devkit"}


def devkit_command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_", "UV_"))}
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments], check=False, cwd=cwd, capture_output=True, text=True,
        timeout=PATIENCE, env={**kept, "PYTHONPATH": str(REPO), "COLUMNS": "200", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_module_is_valid_and_runs_where_a_devkit_watches(
    template: str, make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    with make_devkit(modules=modules) as devkit:
        made = devkit_command("new", "my-module", "--template", template, "--into", str(modules), cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        folder = modules / "my-module"
        assert sorted(path.name for path in modules.iterdir()) == ["my-module"]
        assert json.loads((folder / "manifest.json").read_text())["name"] == "my-module"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in files if TEMPLATES[template].encode() in path.read_bytes()]
        assert not [path for path in folder.rglob("*") if path.name in LEFT_BEHIND]
        assert "__pycache__/" in (folder / ".gitignore").read_text().splitlines()
        assert not [line for line in (folder / "README.md").read_text().splitlines() if "templates/" in line]
        environment = devkit.sdk_environment()
        judged = subprocess.run(
            [HLA_COMPASS, "validate", "--strict", "--format", "json"],
            check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert judged.returncode == 0, judged.stdout
        until(lambda: devkit.request("GET", "/v1/modules/my-module").status_code == 200)
        sample = json.loads((folder / "examples" / "sample_input.json").read_text())
        assert devkit.wait(devkit.run("my-module", sample)["runId"])["status"] == "completed"


BAD_NAMES = ["My-module", "ab", "1st", "a--b", "-a-b", "ab-", "a_b_c", "a/b", "../up", "x" * 51, ""]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_the_platform_would_refuse_are_refused(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(new, ["--into", str(tmp_path / "into"), "--", name])
    assert done.exit_code == 1
    assert "is not a module name" in done.output
    assert not (tmp_path / "into").exists()


def test_a_place_that_cannot_be_is_told_in_words(tmp_path: Path) -> None:
    done = devkit_command("new", "my-module", "--into", "x" * 300, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be made: File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("years of it")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("mine", "link"):
        done = devkit_command("new", name, cwd=tmp_path)
        assert (done.returncode, "exists already" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["work.txt"]


def write_wheel(folder: Path, name: str, version: str, *needs: str) -> str:
    """A package that holds nothing; its SHA-256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(about) + "\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Lab:
    """A module and an index of its own: nothing is asked of the network."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels, self.module = root, root / "wheels", root / "module"
        self.requirements = self.module / "backend" / "requirements.txt"
        self.lock_file = self.module / "backend" / "requirements.lock.txt"
        self.requirements.parent.mkdir(parents=True)

    def lock(self, *options: str) -> subprocess.CompletedProcess[str]:
        return devkit_command(
            "lock", str(self.module), *options, cwd=self.root,
            UV_NO_INDEX="1", UV_FIND_LINKS=str(self.wheels), UV_CACHE_DIR=str(self.root / "cache"), UV_OFFLINE="1",
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_lock_pins_and_hashes_everything_and_says_nothing_of_this_machine(lab: Lab) -> None:
    alpha = write_wheel(lab.wheels, "alpha", "1.0", "beta>=1", "gamma; sys_platform == 'win32'")
    beta = write_wheel(lab.wheels, "beta", "1.5")
    gamma = write_wheel(lab.wheels, "gamma", "3.0")
    lab.requirements.write_text("alpha==1.0\n")
    done = lab.lock()
    assert done.returncode == 0, done.stderr
    assert "Locked 3 packages" in done.stdout
    assert lab.lock_file.read_text() == (
        f"alpha==1.0 \\\n    --hash=sha256:{alpha}\n"
        f"beta==1.5 \\\n    --hash=sha256:{beta}\n"
        f"gamma==3.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{gamma}\n"
    )
    assert [path.name for path in lab.lock_file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_lock_stays_until_an_upgrade_is_asked_for(lab: Lab) -> None:
    write_wheel(lab.wheels, "alpha", "1.0", "beta>=1")
    write_wheel(lab.wheels, "beta", "1.5")
    lab.requirements.write_text("alpha==1.0\n")
    assert lab.lock().returncode == 0
    first = lab.lock_file.read_text()
    write_wheel(lab.wheels, "beta", "2.0")
    assert lab.lock().returncode == 0
    assert lab.lock_file.read_text() == first
    assert lab.lock("--upgrade").returncode == 0
    assert "beta==2.0" in lab.lock_file.read_text()


def test_what_the_resolver_says_is_shown_and_the_lock_stays(lab: Lab) -> None:
    write_wheel(lab.wheels, "alpha", "1.0", "beta>=1")
    lab.requirements.write_text("alpha==1.0\n")
    lab.lock_file.write_text("# mine\n")
    done = lab.lock()
    assert done.returncode == 1
    assert "No solution found" in done.stderr
    assert "beta" in done.stderr
    assert "Traceback" not in done.stderr
    assert lab.lock_file.read_text() == "# mine\n"


def test_a_lock_that_check_would_refuse_is_not_written(lab: Lab) -> None:
    write_wheel(lab.wheels, "alpha", "1.0")
    lab.requirements.write_text("-r more.txt\n")
    (lab.requirements.parent / "more.txt").write_text("alpha==1.0\n")
    done = lab.lock()
    assert done.returncode == 1
    assert "unsupported requirement directive" in done.stderr
    assert not lab.lock_file.exists()


def test_the_official_check_takes_the_lock(lab: Lab) -> None:
    folder = lab.root / "my-module"
    assert devkit_command("new", "my-module", "--template", "ui", cwd=lab.root).returncode == 0
    write_wheel(lab.wheels, "hla_compass", "6.0.2")
    (folder / "backend" / "requirements.lock.txt").unlink()
    lab.module = folder
    assert lab.lock().returncode == 0
    judged = subprocess.run(
        [HLA_COMPASS, "check", "--only", "lock", "--format", "json"],
        check=False, cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "HLA_COMPASS_CONFIG_DIR": str(lab.root / "sdk"), "HLA_COMPASS_SKIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout


def test_a_link_planted_beside_the_lock_is_not_followed(lab: Lab) -> None:
    write_wheel(lab.wheels, "alpha", "1.0")
    lab.requirements.write_text("alpha==1.0\n")
    precious = lab.root / "precious.txt"
    precious.write_text("# years of it\n")
    for name in (".requirements.lock.txt.tmp", "requirements.lock.txt"):
        (lab.lock_file.parent / name).symlink_to(precious)
    done = lab.lock()
    assert done.returncode == 0, done.stderr
    assert precious.read_text() == "# years of it\n"
    assert not lab.lock_file.is_symlink()
    assert "alpha==1.0" in lab.lock_file.read_text()


def test_a_folder_that_is_no_module_is_refused(tmp_path: Path) -> None:
    done = devkit_command("lock", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "no backend/requirements.txt" in done.stderr
