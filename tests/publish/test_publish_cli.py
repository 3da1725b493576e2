"""`hla-compass publish` as its user runs it: unmodified, real processes, a bearer credential, no Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.modules import scaffold
from tests.support.process import DevkitProcess
from tests.support.publishing import SDK_WHEEL, pack, request_of, simple_index, submission, write_publishable
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process

HLA_COMPASS = str(Path(sys.executable).with_name("hla-compass"))


class Author:
    """A person with a shell: the CLI signed in with a token, and the devkit's own commands."""

    def __init__(self, devkit: DevkitProcess, index: str) -> None:
        self.devkit = devkit
        self.index = index
        self.environment = devkit.sdk_environment()
        del self.environment["HLA_API_KEY"]
        self.environment["PATH"] = os.defpath  # no docker command to be found
        self.environment["HLA_ACCESS_TOKEN"] = self.own("token").stdout.split()[-1]

    def own(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m devkit_api …`, successful."""
        env = {**self.devkit.environment(), "UV_DEFAULT_INDEX": self.index, "UV_NO_CACHE": "1", "UV_NO_CONFIG": "1"}
        command = [sys.executable, "-m", "devkit_api", *arguments]
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done

    def sdk(self, *arguments: str, cwd: Path, code: int = 0, **changes: str) -> str:
        """`hla-compass …` and what it printed."""
        done = subprocess.run(
            [HLA_COMPASS, *arguments], check=False, cwd=cwd, env={**self.environment, **changes},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def publish(self, folder: Path, code: int = 0) -> str:
        return self.sdk("publish", "--env", "dev", "--wait", "--interval", "1", cwd=folder, code=code)

    def run(self, folder: Path) -> str:
        sample = str(folder / "examples" / "sample_input.json")
        return self.sdk("run", folder.name, "--wait", "--parameters", sample, cwd=folder)


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    root = tmp_path_factory.mktemp("publish")
    with simple_index({"hla-compass": ("6.0.2", SDK_WHEEL)}) as index, DevkitProcess(root / "devkit") as devkit:
        yield Author(devkit, index)


def change_version(folder: Path, version: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))


def test_a_scaffold_is_locked_published_and_run(author: Author, tmp_path: Path) -> None:
    folder = scaffold(tmp_path, "my-module", "no-ui", author.environment)
    author.own("lock", str(folder))
    assert SDK_WHEEL in (folder / "backend" / "requirements.lock.txt").read_text()
    said = author.publish(folder)
    assert "Module published successfully!" in said
    assert "moduleId: my-module" in said
    assert "Run succeeded" in author.run(folder)

    publish_id = next(word for word in said.split() if word.startswith("publish-"))
    watched = author.sdk("publish-status", "--env", "dev", publish_id, "--watch", cwd=folder)
    assert "COMPLETED — registration" in watched

    # The next version becomes the current one; the old one still runs.
    change_version(folder, "1.0.1")
    assert "Module published successfully!" in author.publish(folder)
    sample = json.loads((folder / "examples" / "sample_input.json").read_text())
    for version, chosen in (("1.0.1", {}), ("1.0.0", {"version": "1.0.0"})):
        run = author.devkit.wait(author.devkit.run("my-module", sample, **chosen)["runId"])
        assert (run["status"], run["version"]) == ("completed", version)

    author.sdk("modules", "suspend", "my-module", "--version", "1.0.1", cwd=folder)
    assert author.devkit.request("GET", "/v1/modules/my-module").json()["version"] == "1.0.0"
    author.sdk("modules", "delete", "my-module", cwd=folder)
    assert author.devkit.request("GET", "/v1/modules/my-module").status_code == 404


def test_an_image_is_recorded_as_an_external_module(author: Author, tmp_path: Path) -> None:
    folder = scaffold(tmp_path, "an-image", "no-ui", author.environment)
    reference = "registry.invalid/lab/an-image@sha256:" + "0" * 64
    said = author.sdk(
        "publish", "--env", "dev", "--image-ref", reference, "--generate-keys", "--wait", "--interval", "1", cwd=folder
    )
    assert "moduleId: an-image" in said
    module = author.devkit.request("GET", "/v1/modules/an-image").json()
    assert (module["external"], module["source"]["imageRef"]) == (True, reference)


SDK_CALLS = """
import sys
from hla_compass.client import APIClient, APIError
client = APIClient()
uuid, version = sys.argv[1], sys.argv[2]
client.register_module("to-deploy", {"version": version, "description": "first"})
made = client.deploy_module(uuid, version=version)
done = client.wait_for_module_deployment(uuid, made["deployment_id"], timeout=180, poll_interval=0.2)
print(done["status"], done["version"], done["deployment_target"])
try:
    client.deploy_module(uuid, version="9.9.9")
except APIError as exc:
    print(exc.status_code)
"""


def test_the_sdk_registers_and_deploys_a_version(author: Author, tmp_path: Path) -> None:
    archive = pack(write_publishable(tmp_path / "to-deploy"))
    asked = request_of(tmp_path / "to-deploy", archive)
    grant = author.devkit.request("POST", "/v1/modules/publish/source-upload", json=asked).json()
    assert requests.put(grant["uploadUrl"], data=archive, headers=grant["headers"], timeout=PATIENCE).status_code == 200
    author.devkit.request("POST", "/v1/modules/publish", json=submission(asked))
    said = author.sdk("publish-status", "--env", "dev", grant["publishId"], "--watch", "--interval", "1", cwd=tmp_path)
    assert "COMPLETED" in said
    uuid = author.devkit.request("GET", "/v1/modules/to-deploy").json()["uuid"]
    done = subprocess.run(
        [sys.executable, "-c", SDK_CALLS, uuid, "1.0.0"],
        check=True, env=author.environment, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["deployed 1.0.0 fargate", "404"]
