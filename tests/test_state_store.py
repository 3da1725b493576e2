"""The JSON file store: durable, whole, in order, owned by one process."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devkit_api.state import StateError, StoreLocked, json_files
from devkit_api.state.json_files import JsonFileStore
from tests.support.client import snapshot as whole_snapshot
from tests.support.modules import manifest
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until_async

KEYS = st.sampled_from(["a", "B", "run-1", "run-2", "m@1.0.0", "x" * 200])
COLLECTIONS = st.sampled_from(["runs", "modules"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), VALUES, max_size=4)


def snapshot(root: Path) -> dict[str, str]:
    """Files alone: a write that failed may leave the empty folder it would have gone to."""
    return {name: digest for name, digest in whole_snapshot(root).items() if digest != "folder"}


class StoreMachine(RuleBasedStateMachine):
    """The store against a dict, reopened at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.model: dict[tuple[str, str], Any] = {}
        self.store = JsonFileStore(Path(self.folder.name))
        self.runner.run(self.store.open())

    @rule(collection=COLLECTIONS, key=KEYS, document=DOCUMENTS)
    def put(self, collection: str, key: str, document: Any) -> None:
        self.runner.run(self.store.put(collection, key, document))
        self.model[collection, key] = document

    @rule(collection=COLLECTIONS, key=KEYS, documents=st.lists(DOCUMENTS, min_size=2, max_size=5))
    def put_at_once(self, collection: str, key: str, documents: list[Any]) -> None:
        async def write() -> None:
            await asyncio.gather(*(self.store.put(collection, key, document) for document in documents))

        self.runner.run(write())
        self.model[collection, key] = documents[-1]

    @rule(collection=COLLECTIONS, key=KEYS)
    def delete(self, collection: str, key: str) -> None:
        self.runner.run(self.store.delete(collection, key))
        self.model.pop((collection, key), None)

    @rule(collection=COLLECTIONS)
    def clear(self, collection: str) -> None:
        self.runner.run(self.store.clear(collection))
        self.model = {where: document for where, document in self.model.items() if where[0] != collection}

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = JsonFileStore(Path(self.folder.name))
        self.runner.run(self.store.open())

    @rule(collection=COLLECTIONS, key=KEYS)
    def get(self, collection: str, key: str) -> None:
        assert self.runner.run(self.store.get(collection, key)) == self.model.get((collection, key))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        async def read() -> dict[tuple[str, str], Any]:
            return {(c, k): d for c in ("runs", "modules") async for k, d in self.store.scan(c)}

        assert self.runner.run(read()) == self.model

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


StoreMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = StoreMachine.TestCase


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


async def test_one_failing_document_does_not_fail_its_batch(
    store: JsonFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = json_files.write_atomic

    def write(path: Path, data: bytes) -> None:
        if path.name == "bad.json":
            raise OSError(errno.ENOSPC, "full")
        real(path, data)

    monkeypatch.setattr(json_files, "write_atomic", write)
    names = ["good", "bad", "fine"]
    outcomes = await asyncio.gather(*(store.put("runs", name, {}) for name in names), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), StateError, type(None)]
    assert await store.get("runs", "bad") is None


async def test_the_writer_survives_whatever_happens(store: JsonFileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("not foreseen")

    with monkeypatch.context() as patch:
        patch.setattr(json_files, "write_atomic", explode)
        with pytest.raises(StateError):
            await asyncio.wait_for(store.put("runs", "a", {}), PATIENCE)
    await asyncio.wait_for(store.put("runs", "a", {}), PATIENCE)


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


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", "a\0b", "a b", "é", "-a", ".a", "a" * 252, "a\n"])
async def test_a_key_is_a_plain_name(store: JsonFileStore, tmp_path: Path, key: str) -> None:
    before = snapshot(tmp_path)
    for call in (store.put("runs", key, {}), store.get("runs", key), store.delete("runs", key)):
        with pytest.raises(StateError):
            await call
    with pytest.raises(StateError):
        await store.put(key, "a", {})
    assert snapshot(tmp_path) == before


async def test_what_is_no_json_is_refused(store: JsonFileStore) -> None:
    with pytest.raises(StateError):
        await store.put("runs", "a", {"x": object()})
    with pytest.raises(StateError):
        await store.put("runs", "a", {"x": "\ud800"})


async def test_two_hundred_writers_share_commits(store: JsonFileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = json_files._commit_batch
    batches: list[int] = []

    async def commit(changes: Any) -> Any:
        batches.append(len(changes))
        return await real(changes)

    monkeypatch.setattr(json_files, "_commit_batch", commit)
    await asyncio.gather(*(store.put("runs", f"r{n}", {"n": n}) for n in range(200)))
    assert sum(batches) == 200
    assert len(batches) <= 5, f"{len(batches)} commits for 200 writers that came at once: {synced}"
    found = {key: document["n"] async for key, document in store.scan("runs")}
    assert found == {f"r{n}": n for n in range(200)}


async def test_writes_to_one_document_take_effect_in_order(store: JsonFileStore, tmp_path: Path) -> None:
    finished: list[int] = []

    async def write(n: int) -> None:
        await store.put("runs", "a", {"n": n})
        finished.append(n)
        [path] = (tmp_path / "state" / "runs").rglob("a.json")
        assert json.loads(path.read_bytes())["n"] >= n, "an earlier write undid a later one"

    await asyncio.gather(*(write(n) for n in range(200)))
    assert finished == sorted(finished)
    assert await store.get("runs", "a") == {"n": 199}
    await asyncio.gather(store.put("runs", "a", {}), store.delete("runs", "a"), store.put("runs", "b", {}))
    assert await store.get("runs", "a") is None


class HeldDisk:
    """Commits wait for `go`; `busy` tells that one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy, self.go = asyncio.Event(), asyncio.Event()
        self._commit = json_files._commit_batch
        monkeypatch.setattr(json_files, "_commit_batch", self._wait_and_commit)

    async def _wait_and_commit(self, changes: Any) -> Any:
        self.busy.set()
        await self.go.wait()
        return await self._commit(changes)


async def test_a_caller_that_goes_away_takes_nothing_back(
    store: JsonFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HeldDisk(monkeypatch)
    task = asyncio.create_task(store.put("runs", "a", {"n": 1}))
    await disk.busy.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    disk.go.set()
    await store.put("runs", "b", {})
    assert await store.get("runs", "a") == {"n": 1}


async def test_a_document_still_on_its_way_is_cleared_as_well(store: JsonFileStore) -> None:
    late = [asyncio.create_task(store.put("runs", f"late-{n}", {"n": n})) for n in range(3)]
    other = asyncio.create_task(store.put("modules", "other", {"n": 4}))
    await asyncio.sleep(0)  # they have begun
    late[0].cancel()  # it is written all the same
    await store.clear("runs")
    await asyncio.wait([*late, other])
    assert [key async for key, _ in store.scan("runs")] == []
    assert [key async for key, _ in store.scan("modules")] == ["other"]


async def test_closing_commits_what_is_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = HeldDisk(monkeypatch)
    store = JsonFileStore(tmp_path)
    await store.open()
    writes = [asyncio.create_task(store.put("runs", "r0", {}))]
    await disk.busy.wait()
    writes += [asyncio.create_task(store.put("runs", f"r{n}", {})) for n in range(1, 20)]
    await until_async(lambda: len(store._pending) == 19)
    closing = asyncio.create_task(store.close())
    await until_async(lambda: store._closing)
    assert not any(write.done() for write in writes)
    disk.go.set()
    await closing
    await asyncio.gather(*writes)
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 20
    with pytest.raises(StateError):
        await store.put("runs", "late", {})


async def test_a_second_owner_is_refused(store: JsonFileStore, tmp_path: Path) -> None:
    other = JsonFileStore(tmp_path / "state")
    with pytest.raises(StoreLocked):
        await other.open()
    await store.close()
    await other.open()
    await other.close()


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
