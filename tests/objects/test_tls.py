"""https with a certificate of our own: what the SDK refuses over http works, modules included."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from devkit_api.settings import SettingsError, load_settings
from tests.support.modules import write_module
from tests.support.process import REPO, TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process


def test_the_cli_downloads_an_artifact_over_https(
    tls: dict[str, str], make_devkit: Callable[..., DevkitProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(
        tmp_path / "mods" / "saver",
        'self.storage.save_text("note.txt", "over https")\nreturn self.success(results={"ok": True})',
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls["ca-bundle.pem"])
    # What docs/objects.md says to do to certifi's list, done to a stand-in for it.
    shim = tmp_path / "shim" / "certifi"
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text(f"def where():\n    return {tls['ca-bundle.pem']!r}\n")
    devkit = make_devkit(modules=tmp_path / "mods", tls_cert=tls["cert.pem"], tls_key=tls["key.pem"])
    with devkit:
        assert devkit.endpoint.startswith("https://")
        run = devkit.wait(devkit.run("saver")["runId"])
        assert run["status"] == "completed", run["error"]
        artifact = devkit.request("GET", f"/v1/lineage/run/{run['runId']}").json()["outputs"][0]
        command = [
            str(Path(sys.executable).with_name("hla-compass")), "runs", "download", run["runId"],
            artifact["artifactId"], "--lineage-id", artifact["id"], "--version-id", artifact["artifactVersionId"],
            "--output", str(tmp_path / "note.txt"),
        ]  # fmt: skip
        environment = {**devkit.sdk_environment(), "PYTHONPATH": str(tmp_path / "shim")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert json.loads(ran.stdout)["recordedChecksumVerified"] is True
        assert (tmp_path / "note.txt").read_text() == "over https"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(devkit.endpoint, timeout=PATIENCE)


def test_half_a_certificate_or_none_is_refused_with_the_way_out(tls: dict[str, str], tmp_path: Path) -> None:
    environ = {"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match="TLS_KEY"):
        load_settings({**environ, "DEVKIT_TLS_CERT": tls["cert.pem"]})
    with pytest.raises(SettingsError, match="is not a file"):
        load_settings({**environ, "DEVKIT_TLS_CERT": tls["cert.pem"], "DEVKIT_TLS_KEY": str(tmp_path / "none")})
    swapped = {"DEVKIT_TLS_CERT": tls["key.pem"], "DEVKIT_TLS_KEY": tls["cert.pem"]}
    ran = subprocess.run(
        [sys.executable, "-m", "devkit_api", "serve"], cwd=tmp_path, timeout=PATIENCE, capture_output=True, text=True,
        env={**environ, **swapped, "PYTHONPATH": str(REPO), "PATH": "", "DEVKIT_PORT": "0"}, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "tls init" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
