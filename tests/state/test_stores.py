"""What every document store does, whichever backend: whole, in order, owned by one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from devkit_api.state import StateError, StoreLocked, WriteRefused, json_files
from devkit_api.state.json_files import JsonFileStore
from devkit_api.state.postgres.schema import prepare
from devkit_api.state.postgres.store import PostgresStore
from tests.state.conftest import asking, target_of
from tests.support.waiting import PATIENCE, until_async

KEYS = st.sampled_from(["a", "B", "run-1", "run-2", "m@1.0.0", "x" * 200])
COLLECTIONS = st.sampled_from(["runs", "modules"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), VALUES, max_size=4)
Store = JsonFileStore | PostgresStore


class Backend:
    """Stores of one state, and ways to break it."""

    def __init__(self, make: Callable[[], Store], empty: Callable[[], None], spoil: Callable[[], None]) -> None:
        self.make, self.empty, self.spoil = make, empty, spoil


@pytest.fixture(params=["json", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """`empty` removes every document behind the store's back; `spoil` lets nobody write the document `bad`."""
    if request.param == "json":
        folders = iter(range(1000))
        place = [tmp_path / "state"]

        def fresh() -> None:
            place[0] = tmp_path / f"state-{next(folders)}"

        def refuse() -> None:
            real = json_files.write_atomic

            def write(path: Path, data: bytes) -> None:
                if path.name == "bad.json":
                    raise OSError(28, "full")
                real(path, data)

            monkeypatch.setattr(json_files, "write_atomic", write)

        yield Backend(lambda: JsonFileStore(place[0]), fresh, refuse)
        return
    target = target_of(request.getfixturevalue("database"))
    prepare(target)
    with asking(target) as ask:
        yield Backend(
            lambda: PostgresStore(target),
            lambda: ask("TRUNCATE devkit_state.documents") and None,
            lambda: ask("ALTER TABLE devkit_state.documents ADD CHECK (key <> 'bad')") and None,
        )


@pytest.fixture
async def store(backend: Backend) -> Any:
    made = backend.make()
    await made.open()
    yield made
    await made.close()


async def everything(store: Store) -> dict[tuple[str, str], Any]:
    return {(c, k): d for c in ("runs", "modules") async for k, d in store.scan(c)}


class StoreMachine(RuleBasedStateMachine):
    """The store against a dict, reopened at any time."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        backend.empty()
        self.make = backend.make
        self.runner = asyncio.Runner()
        self.model: dict[tuple[str, str], Any] = {}
        self.store = self.make()
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
        self.store = self.make()
        self.runner.run(self.store.open())

    @rule(collection=COLLECTIONS, key=KEYS)
    def get(self, collection: str, key: str) -> None:
        assert self.runner.run(self.store.get(collection, key)) == self.model.get((collection, key))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.runner.run(everything(self.store)) == self.model

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


def test_it_holds_what_was_put(backend: Backend, request: pytest.FixtureRequest) -> None:
    checks = settings(max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: StoreMachine(backend), settings=checks)


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", "a\0b", "a b", "é", "-a", ".a", "a" * 252, "a\n"])
async def test_a_key_is_a_plain_name(store: Store, key: str) -> None:
    for call in (store.put("runs", key, {}), store.get("runs", key), store.delete("runs", key)):
        with pytest.raises(StateError):
            await call
    with pytest.raises(StateError):
        await store.put(key, "a", {})
    assert await everything(store) == {}


async def test_what_is_no_json_is_refused(store: Store) -> None:
    with pytest.raises(StateError):
        await store.put("runs", "a", {"x": object()})
    with pytest.raises(StateError):
        await store.put("runs", "a", {"x": "\ud800"})


async def test_a_document_comes_back_as_it_was(store: Store) -> None:
    odd = {
        "text": "\0 %s \\ ' \" \u2028 😀",
        "z": 1,
        "a": 1.0,
        "deep": [[[{"x": None}]]],
        "big": 2**53,
        "long": "x" * 300_000,
    }
    await store.put("runs", "a", odd)
    got = await store.get("runs", "a")
    assert got == odd
    assert list(got or {}) == list(odd), "in another order"
    assert isinstance((got or {})["a"], float)


async def test_two_hundred_writers_share_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store._queue._commit
    batches: list[int] = []

    async def commit(changes: Any) -> Any:
        batches.append(len(changes))
        return await real(changes)

    monkeypatch.setattr(store._queue, "_commit", commit)
    await asyncio.gather(*(store.put("runs", f"r{n}", {"n": n}) for n in range(200)))
    assert sum(batches) == 200
    assert len(batches) <= 5, f"{len(batches)} commits for 200 writers that came at once"
    assert {key: document["n"] async for key, document in store.scan("runs")} == {f"r{n}": n for n in range(200)}


async def test_more_documents_than_a_page_are_all_there(store: Store) -> None:
    names = {f"r{n:03d}" for n in range(600)}
    await asyncio.gather(*(store.put("runs", name, {}) for name in names))
    found = [key async for key, _ in store.scan("runs")]
    assert (len(found), set(found)) == (600, names)
    await store.put("modules", "m", {})
    await store.clear("runs")
    assert await everything(store) == {("modules", "m"): {}}


async def test_writes_to_one_document_take_effect_in_order(store: Store) -> None:
    finished: list[int] = []

    async def write(n: int) -> None:
        await store.put("runs", "a", {"n": n})
        finished.append(n)

    await asyncio.gather(*(write(n) for n in range(200)))
    assert finished == sorted(finished)
    assert await store.get("runs", "a") == {"n": 199}
    await asyncio.gather(store.put("runs", "a", {}), store.delete("runs", "a"), store.put("runs", "b", {}))
    assert await everything(store) == {("runs", "b"): {}}


async def test_one_failing_document_does_not_fail_its_batch(store: Store, backend: Backend) -> None:
    backend.spoil()
    names = ["good", "bad", "fine"]
    outcomes = await asyncio.gather(*(store.put("runs", name, {}) for name in names), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), WriteRefused, type(None)]
    assert sorted(await everything(store)) == [("runs", "fine"), ("runs", "good")]


async def test_the_writer_survives_whatever_happens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(_: Any) -> Any:
        raise RuntimeError("not foreseen")

    with monkeypatch.context() as patch:
        patch.setattr(store._queue, "_commit", explode)
        with pytest.raises(StateError):
            await asyncio.wait_for(store.put("runs", "a", {}), PATIENCE)
    await asyncio.wait_for(store.put("runs", "a", {}), PATIENCE)
    assert await store.get("runs", "a") == {}


class HeldCommits:
    """Commits of a store wait for `go`; `busy` tells that one does."""

    def __init__(self, store: Store) -> None:
        self.busy, self.go = asyncio.Event(), asyncio.Event()
        self._commit = store._queue._commit
        store._queue._commit = self._wait_and_commit  # type: ignore[method-assign]

    async def _wait_and_commit(self, changes: Any) -> Any:
        self.busy.set()
        await self.go.wait()
        return await self._commit(changes)


async def test_a_caller_that_goes_away_takes_nothing_back(store: Store) -> None:
    held = HeldCommits(store)
    task = asyncio.create_task(store.put("runs", "a", {"n": 1}))
    await held.busy.wait()
    assert await store.get("runs", "a") == {"n": 1}, "what is about to be"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.go.set()
    await store.put("runs", "b", {})
    assert await store.get("runs", "a") == {"n": 1}


async def test_a_document_still_on_its_way_is_cleared_as_well(store: Store) -> None:
    late = [asyncio.create_task(store.put("runs", f"late-{n}", {"n": n})) for n in range(3)]
    other = asyncio.create_task(store.put("modules", "other", {"n": 4}))
    await asyncio.sleep(0)  # they have begun
    late[0].cancel()  # it is written all the same
    await store.clear("runs")
    await asyncio.wait([*late, other])
    assert await everything(store) == {("modules", "other"): {"n": 4}}


async def test_closing_commits_what_is_pending(backend: Backend) -> None:
    store = backend.make()
    await store.open()
    held = HeldCommits(store)
    writes = [asyncio.create_task(store.put("runs", "r0", {}))]
    await held.busy.wait()
    writes += [asyncio.create_task(store.put("runs", f"r{n}", {})) for n in range(1, 20)]
    await until_async(lambda: len(store._queue._pending) == 19)
    closing = asyncio.create_task(store.close())
    await until_async(lambda: store._queue.is_closing)
    assert not any(write.done() for write in writes)
    held.go.set()
    await closing
    await asyncio.gather(*writes)
    with pytest.raises(StateError):
        await store.put("runs", "late", {})
    again = backend.make()
    await again.open()
    assert len(await everything(again)) == 20
    await again.close()


async def test_a_second_owner_is_refused(store: Store, backend: Backend) -> None:
    other = backend.make()
    with pytest.raises(StoreLocked) as refused:
        await other.open()
    assert "another devkit" in str(refused.value)
    assert "DEVKIT_" in refused.value.advice
    await store.put("runs", "a", {})
    await store.close()
    await other.open()
    assert await other.get("runs", "a") == {}
    await other.close()
    await store.open()  # for the fixture
