"""The wheel: what is in it, that it works without this folder, and that it opens what an older version left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit_api import __version__
from tests.support.modules import manifest
from tests.support.process import REPO, TEST_KEY
from tests.support.waiting import PATIENCE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is, from the source archive; of a copy, as a build leaves traces."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=REPO, check=True, capture_output=True,
        text=True, timeout=PATIENCE,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, names):
        if name.startswith(("devkit_api/", "templates/")) or "/" not in name:
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (REPO / name).is_file():
                target.write_bytes((REPO / name).read_bytes())
    junk = folder / "source" / "templates" / "ui-template" / "frontend" / "node_modules" / "junk"
    junk.mkdir(parents=True)
    (junk / "index.js").write_text("")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source")],
        check=True, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "would be ignored" not in built.stdout + built.stderr, "a folder that setuptools may leave out one day"
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of an environment that has the wheel; its dependencies are those of this environment."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=PATIENCE)
    python = venv / "bin" / "python"
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-index", "--offline", str(wheel)],
        check=True, cwd=venv, env=environment(venv / "state"), timeout=PATIENCE,
    )  # fmt: skip
    here = [path for path in sys.path if path.endswith("site-packages")]
    lines = "".join(f"{path}\n" for path in here)
    next((venv / "lib").glob("python*/site-packages")).joinpath("dependencies.pth").write_text(lines)
    yield python


def environment(state: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    settings = {
        "DEVKIT_STATE_DIR": str(state),
        "DEVKIT_API_KEY": TEST_KEY,
        "DEVKIT_PORT": "0",
        "DEVKIT_CATALOGS": "off",
    }
    return kept | settings


def test_what_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert wheel.name.startswith(f"hla_compass_devkit-{__version__}-")
    for name in (
        "py.typed", "templates/no-ui-template/manifest.json", "templates/ui-template/frontend/package.json",
        "apidocs/assets/reference.css", "apidocs/assets/reference.html.j2", "catalogs/data/demo_epitopes.csv",
        "database/migrations/0001_catalogs.sql", "state/postgres/migrations/0001_documents.sql",
        "templates/ui-template/frontend/package-lock.json",
        "templates/ui-template/frontend/.npmrc", "templates/ui-template/.gitignore",
    ):  # fmt: skip
        assert f"devkit_api/{name}" in names
    assert not [name for name in names if "__pycache__" in name or "node_modules" in name or name.startswith("tests/")]
    assert "devkit = devkit_api.__main__:main" in points
    assert "devkit_api.testing.plugin = devkit_api.testing.plugin" in points


def test_the_version_comes_from_one_place(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed, "-m", "devkit_api", "--version"], cwd=tmp_path, env=environment(tmp_path), check=True,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert __version__ in done.stdout
    assert "attr: devkit_api.__version__" in (REPO / "setup.cfg").read_text()


def test_the_main_job_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """Make a module from a template, serve it, run it: with nothing of this repository at hand."""
    env = environment(tmp_path / "state")

    def devkit(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed, "-m", "devkit_api", *arguments], cwd=tmp_path, env=env, check=False, capture_output=True,
            text=True, timeout=PATIENCE,
        )  # fmt: skip

    for name, template in ("my-module", "no-ui"), ("my-page", "ui"):
        made = devkit("new", name, "--template", template)
        assert made.returncode == 0, made.stdout + made.stderr
    assert (tmp_path / "my-page" / "frontend" / ".npmrc").is_file()
    assert (tmp_path / "my-page" / ".gitignore").is_file()
    where = subprocess.run(
        [installed, "-c", "import devkit_api; print(devkit_api.__file__)"], cwd=tmp_path, env=env, check=True,
        capture_output=True, text=True, timeout=PATIENCE,
    ).stdout  # fmt: skip
    assert str(installed.parent.parent) in where
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [installed, "-m", "devkit_api", "serve", "--modules", "."], cwd=tmp_path, env=env, stdout=subprocess.PIPE,
            stderr=log, text=True,
        )  # fmt: skip
    assert server.stdout is not None
    try:
        assert "ready at" in server.stdout.readline(), (tmp_path / "log").read_text()
        done = devkit("run", "my-module", "--input", "my-module/examples/sample_input.json", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["status"] == "completed"
    finally:
        server.terminate()
        server.wait(PATIENCE)
        server.stdout.close()


async def test_a_state_directory_of_an_older_version_opens(make_client: Any) -> None:
    """Documents as version 0.1.0 wrote its first ones: fields that came later are not there, unknown ones are."""
    client = await make_client()
    await client.post("/v1/devkit/modules", json={"manifest": manifest("older")})
    run = await (await client.post("/v1/module-runs", json={"moduleId": "older", "parameters": {}})).json()
    await client.close()
    [path] = client.app_state.glob(f"runs/**/*{run['runId']}*")
    stored = json.loads(path.read_text())
    document = stored.get("document", stored)
    later = ("navigation_data", "data_context", "heartbeat_at", "progress", "summary", "metrics", "has_output")
    later += ("traceparent",)
    for name in later:
        document.pop(name, None)
    document["a_field_of_another_version"] = 1
    path.write_text(json.dumps(stored))
    again = await make_client()
    opened = await (await again.get(f"/v1/module-runs/{run['runId']}")).json()
    assert (opened["status"], opened["summary"], opened["metrics"]) == ("queued", None, {})
    modules = await (await again.get("/v1/modules")).json()
    assert [item["id"] for item in modules["items"]] == ["older"]
