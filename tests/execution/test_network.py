"""`"network": false` in the manifest: the module reaches the devkit and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit_api.errors import ManifestInvalid
from devkit_api.execution.isolation import Level, probe_level
from devkit_api.modules.schemas import check_manifest
from tests.execution.conftest import Bench
from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess

BODY = """
import socket
self.report_progress(50, "half way")
self.storage.save_text("note.txt", "kept")
reached = []
for host, port in [("127.0.0.1", input_data["port"]), ("192.0.2.1", 80)]:
    try:
        socket.create_connection((host, port), timeout=5).close()
        reached.append(host)
    except OSError:
        pass
return self.success(results={"reached": reached, "interfaces": [name for _, name in socket.if_nameindex()],
                             "kept": self.storage.load_text("note.txt")})
"""


@pytest.mark.process
def test_module_without_network_reaches_the_devkit_alone(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    if probe_level(wanted="auto", state_dir=tmp_path) not in (Level.NAMESPACES, Level.CONTAINED):
        # Nothing can be taken away there, and nothing runs: the last test here. Build machines run the suite as root.
        pytest.skip("this machine gives this user no namespaces")
    write_module(tmp_path / "mods" / "cut-off", BODY, network=False)
    write_module(tmp_path / "mods" / "connected", BODY)
    with make_devkit(modules=tmp_path / "mods") as devkit, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = {}
        for module in ("cut-off", "cut-off", "connected"):
            run = devkit.wait(devkit.run(module, {"port": port})["runId"])
            assert run["status"] == "completed", devkit.request("GET", f"/v1/module-runs/{run['runId']}/logs").text
            assert run["progress"]["percent"] == 50
            found[module] = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]
        assert found["cut-off"] == {"reached": [], "interfaces": ["lo"], "kept": "kept"}
        assert "127.0.0.1" in found["connected"]["reached"]
        assert devkit.stop() == 0


@pytest.mark.parametrize("value", ["false", 0, None, []])
def test_network_is_true_or_false_and_nothing_that_looks_like_it(value: Any) -> None:
    with pytest.raises(ManifestInvalid, match="network"):
        check_manifest(manifest("cut-off", network=value))


async def test_network_that_cannot_be_taken_away_is_said_and_nothing_runs(make_bench: Any) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module("cut-off", "print('ran'); return self.success(results={})")
    result = await bench.run(module, network=False)
    assert "no network" in str(result.outcome.problem)
    assert result.text == ""
