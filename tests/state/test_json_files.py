"""The JSON file store: what it does on a disk. What every store does is in `test_stores.py`."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit_api.state import StateError
from devkit_api.state.json_files import JsonFileStore
from tests.support.client import snapshot as whole_snapshot
from tests.support.modules import manifest
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE


def snapshot(root: Path) -> dict[str, str]:
    """Files alone: a write that failed may leave the empty folder it would have gone to."""
    return {name: digest for name, digest in whole_snapshot(root).items() if digest != "folder"}


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    made = JsonFileStore(tmp_path / "state")
    await made.open()
    yield made
    await made.close()


async def _reopened(store: JsonFileStore, root: Path) -> JsonFileStore:
    await store.close()
    again = JsonFileStore(root)
    await again.open()
    return again


async def test_a_put_is_on_the_disk_when_it_returns(store: JsonFileStore, tmp_path: Path) -> None:
    await store.put("runs", "a", {"n": 1})
    [path] = (tmp_path / "state" / "runs").rglob("a.json")
    assert json.loads(path.read_bytes()) == {"n": 1}
    assert path.stat().st_mode & 0o077 == 0
    await store.delete("runs", "a")
    assert not path.exists()


async def test_a_crash_between_temporary_file_and_rename_leaves_the_old_document(tmp_path: Path) -> None:
    store = JsonFileStore(tmp_path)
    await store.open()
    await store.put("runs", "a", {"n": 1})
    [path] = (tmp_path / "runs").rglob("a.json")
    leftover = path.with_name(".a.json.tmp")
    leftover.write_bytes(b'{"n": 2')
    store = await _reopened(store, tmp_path)
    assert await store.get("runs", "a") == {"n": 1}
    assert [item async for item in store.scan("runs")] == [("a", {"n": 1})]
    assert not leftover.exists()
    await store.close()


@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "open"])
async def test_a_full_disk_keeps_the_old_document(
    store: JsonFileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    await store.put("runs", "a", {"n": 1})
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        _break_disk(patch, failing)
        for write in (store.put("runs", "a", {"n": 2}), store.put("runs", "b", {})):
            with pytest.raises(StateError, match="No space left"):
                await write
    assert snapshot(tmp_path) == before
    assert await store.get("runs", "a") == {"n": 1}
    await store.put("runs", "a", {"n": 3})
    assert await store.get("runs", "a") == {"n": 3}


def _break_disk(patch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from devkit_api import atomic

    if failing == "fsync":
        patch.setattr(atomic.os, "fsync", full)
    elif failing == "replace":
        patch.setattr(Path, "replace", full)
    elif failing == "open":
        patch.setattr(atomic.os, "open", full)
    else:

        class Full:
            """A file that takes nothing."""

            def __init__(self, fd: int, _mode: str) -> None:
                self.fd = fd

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                os.close(self.fd)

            write = full

        patch.setattr(atomic.os, "fdopen", Full)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"garbage\x00\xff", b"[]", b"null", b'"text"', b'{"n": 1} {}'], ids=repr
)
async def test_a_corrupt_file_is_set_aside(
    store: JsonFileStore, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put("runs", "good", {"n": 1})
    await store.put("runs", "bad", {"n": 2})
    [path] = (tmp_path / "state" / "runs").rglob("bad.json")
    path.write_bytes(content)
    assert [key async for key, _ in store.scan("runs")] == ["good"]
    assert not path.exists()
    [aside] = (tmp_path / "state" / "quarantine").iterdir()
    assert aside.read_bytes() == content
    assert "set aside" in caplog.text
    await store.put("runs", "bad", {"n": 3})
    path.write_bytes(b"again")
    assert [key async for key, _ in store.scan("runs")] == ["good"]
    assert {p.read_bytes() for p in (tmp_path / "state" / "quarantine").iterdir()} == {content, b"again"}


async def test_foreign_files_are_set_aside_or_left_alone(store: JsonFileStore, tmp_path: Path) -> None:
    await store.put("runs", "good", {"n": 1})
    [path] = (tmp_path / "state" / "runs").rglob("good.json")
    copies = [path.with_name("good copy.json"), path.with_name("-odd.json")]
    for copy in copies:
        copy.write_bytes(b'{"n": 9}')
    elsewhere = path.parent.parent / ("00" if path.parent.name != "00" else "01") / "good.json"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b'{"n": 8}')
    notes = [path.with_name("notes.txt"), path.parent.parent / "README"]
    for note in notes:
        note.write_text("mine")
    assert [item async for item in store.scan("runs")] == [("good", {"n": 1})]
    assert not any(copy.exists() for copy in [*copies, elsewhere])
    assert all(note.read_text() == "mine" for note in notes)


@pytest.fixture
def running(make_devkit: Callable[..., DevkitProcess]) -> Iterator[DevkitProcess]:
    with make_devkit() as devkit:
        yield devkit


@pytest.mark.process
def test_a_second_server_says_what_to_do(running: DevkitProcess) -> None:
    command = [sys.executable, "-m", "devkit_api", "serve"]
    second = subprocess.run(
        command,
        env=running.environment(),
        cwd=running.root,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 1
    assert "another devkit is using" in second.stderr
    assert "DEVKIT_STATE_DIR" in second.stderr
    assert "Traceback" not in second.stderr
    assert running.request("GET", "/v1/modules").status_code == 200


@pytest.mark.process
def test_a_server_starts_with_a_corrupt_state(make_devkit: Callable[..., DevkitProcess]) -> None:
    with make_devkit() as devkit:
        devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("outside")})
        run = devkit.run("outside")
    [path] = (devkit.state / "runs").rglob("*.json")
    path.with_name("devkit-run-copy.json").write_bytes(path.read_bytes())
    [module] = (devkit.state / "modules").rglob("*.json")
    module.write_bytes(b"\x00garbage")
    with devkit.start():
        assert devkit.request("GET", "/v1/modules").json()["items"] == []
        assert [r["runId"] for r in devkit.request("GET", "/v1/module-runs").json()["runs"]] == [run["runId"]]
        assert "set aside" in devkit.log_text()


async def test_a_refused_write_is_a_line_of_the_log(
    make_client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has taken the state over, or fills the disk, would else fill the log as well."""
    client = await make_client()
    with monkeypatch.context() as patch:
        _break_disk(patch, "fsync")
        answer = await client.post("/v1/devkit/modules", json={"manifest": manifest("second")})
    assert answer.status == 503
    [told] = [record for record in caplog.records if record.getMessage().startswith("request failed")]
    assert told.getMessage() == "request failed: STATE_WRITE_FAILED (modules: No space left on device)"
    assert told.exc_info is None


@pytest.mark.parametrize("failing", ["fsync", "open", "replace"])
async def test_a_full_disk_acknowledges_nothing(
    make_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await make_client()
    await client.post("/v1/devkit/modules", json={"manifest": manifest("outside")})
    run = await (await client.post("/v1/module-runs", json={"moduleId": "outside", "mode": "async"})).json()
    before = snapshot(tmp_path / "state")
    address = f"/v1/module-runs/{run['runId']}"
    token = {"X-API-Key": run["token"]}
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        _break_disk(patch, failing)
        for path, body, headers in (
            ("/v1/module-runs", {"moduleId": "outside", "mode": "async"}, {}),
            ("/v1/devkit/modules", {"manifest": manifest("second")}, {}),
            ("/v1/modules/outside/quote", {}, {}),
            (address + "/heartbeat", {}, token),
            (address + "/complete", {"status": "completed", "result": {"a": 1}}, token),
            (address + "/cancel", {}, {}),
        ):
            answer = await client.post(path, json=body, headers=headers)
            assert answer.status == 503, (path, await answer.text())
            assert (await answer.json())["error"]["code"] == "STATE_WRITE_FAILED"
            assert int(answer.headers["Retry-After"]) > 0
    assert snapshot(tmp_path / "state") == before
    assert (await (await client.get("/v1/module-runs")).json())["pagination"]["total"] == 1
    assert (await (await client.get(address)).json())["status"] == "queued"
    assert (await client.get("/v1/modules/second")).status == 404
    assert (await client.post(address + "/cancel")).status == 200
