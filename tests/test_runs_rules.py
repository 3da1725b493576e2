"""The rules of runs: legal moves, durable before announced, retention, plans, logs, cancel, limits."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devkit_api.execution.protocol import Outcome, StopReason
from devkit_api.ids import new_run_id, utc_now
from devkit_api.runs import plans
from devkit_api.runs.models import MOVES, TERMINAL, IllegalMove, Run, RunStatus, move
from devkit_api.runs.queue import FairQueue
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.routes import RUNS
from devkit_api.runs.service import RunService
from devkit_api.state.json_files import JsonFileStore
from tests.support.client import below, snapshot
from tests.support.modules import manifest, write_module
from tests.support.waiting import PATIENCE, until_async

STATUSES = st.sampled_from(list(RunStatus))


def _run(run_id: str = "devkit-run-1", **changes: Any) -> Run:
    base: dict[str, Any] = {
        "run_id": run_id, "module_id": "m", "module_version": "1.0.0", "module_name": "m", "mode": "async",
        "status": RunStatus.QUEUED, "parameters": {}, "created_at": utc_now(), "user_id": "u", "organization_id": "o",
        "correlation_id": "c", "max_runtime_seconds": 60, "token_serial": "0" * 16,
    }  # fmt: skip
    return Run(**{**base, **changes})


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    assert MOVES.keys() == set(RunStatus)
    for status in TERMINAL:
        assert MOVES[status] == frozenset()
    for targets in MOVES.values():
        assert RunStatus.QUEUED not in targets, "no run goes back to the queue"
    assert MOVES[RunStatus.CANCEL_REQUESTED] == {RunStatus.CANCELLED}
    reached, line = {RunStatus.QUEUED}, deque([RunStatus.QUEUED])
    while line:
        for target in MOVES[line.popleft()] - reached:
            reached.add(target)
            line.append(target)
    assert reached == set(RunStatus)


@given(start=STATUSES, moves=st.lists(STATUSES, max_size=8))
def test_only_moves_of_the_table_are_made(start: RunStatus, moves: list[RunStatus]) -> None:
    run = _run(status=start)
    for target in moves:
        if target in MOVES[run.status]:
            run = move(run, target)
            assert run.status is target
        else:
            with pytest.raises(IllegalMove):
                move(run, target)
        if run.is_terminal:
            assert all(_refuses(run, status) for status in RunStatus)


def _refuses(run: Run, to: RunStatus) -> bool:
    try:
        move(run, to)
    except IllegalMove:
        return True
    return False


class RepositoryMachine(RuleBasedStateMachine):
    """The repository on a real store: what is announced is on the disk already."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.runner = asyncio.Runner()
        self.model: dict[str, RunStatus] = {}
        self.announced: list[str] = []
        self._open()

    def _open(self) -> None:
        self.store = JsonFileStore(self.root)
        self.repository = RunRepository(self.store, 100)
        self.runner.run(self.store.open())
        self.runner.run(self.repository.load())
        self.repository.listen(self._on_change)

    def _on_change(self, run: Run) -> None:
        [path] = (self.root / "runs").rglob(f"{run.run_id}.json")
        assert json.loads(path.read_bytes())["status"] == run.status.value, "announced before it was durable"
        self.announced.append(run.run_id)

    @rule()
    def create(self) -> None:
        run = _run(new_run_id())
        _, created = self.runner.run(self.repository.create(run))
        assert created
        assert self.announced[-1] == run.run_id
        self.model[run.run_id] = RunStatus.QUEUED

    @rule(data=st.data())
    def create_again(self, data: st.DataObject) -> None:
        if self.model:
            run_id = data.draw(st.sampled_from(sorted(self.model)))
            found, created = self.runner.run(self.repository.create(_run(run_id)))
            assert (found.status, created) == (self.model[run_id], False)

    @rule(data=st.data(), to=STATUSES)
    def transition(self, data: st.DataObject, to: RunStatus) -> None:
        if not self.model:
            return
        run_id = data.draw(st.sampled_from(sorted(self.model)))
        told = len(self.announced)
        try:
            self.runner.run(self.repository.transition(run_id, to))
        except IllegalMove:
            assert to not in MOVES[self.model[run_id]]
            assert len(self.announced) == told
        else:
            assert to in MOVES[self.model[run_id]]
            assert len(self.announced) == told + 1
            self.model[run_id] = to

    @rule(data=st.data(), to=st.lists(STATUSES, min_size=2, max_size=4))
    def transitions_at_once(self, data: st.DataObject, to: list[RunStatus]) -> None:
        if not self.model:
            return
        run_id = data.draw(st.sampled_from(sorted(self.model)))

        async def race() -> None:
            moves = (self.repository.transition(run_id, target) for target in to)
            outcomes = await asyncio.gather(*moves, return_exceptions=True)
            for outcome, target in zip(outcomes, to, strict=True):
                if isinstance(outcome, Run):
                    assert target in MOVES[self.model[run_id]]
                    self.model[run_id] = target
                else:
                    assert isinstance(outcome, IllegalMove)
                    assert target not in MOVES[self.model[run_id]]

        self.runner.run(race())

    @rule(data=st.data(), seen=STATUSES)
    def transition_of_what_was_seen(self, data: st.DataObject, seen: RunStatus) -> None:
        if not self.model:
            return
        run_id = data.draw(st.sampled_from(sorted(self.model)))
        try:
            self.runner.run(self.repository.transition(run_id, RunStatus.CANCELLED, of=seen))
        except IllegalMove:
            assert seen is not self.model[run_id] or RunStatus.CANCELLED not in MOVES[seen]
        else:
            assert seen is self.model[run_id]
            self.model[run_id] = RunStatus.CANCELLED

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            run_id = data.draw(st.sampled_from(sorted(self.model)))
            self.runner.run(self.repository.remove(run_id))
            if self.model[run_id] in TERMINAL:
                del self.model[run_id]

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self._open()

    @invariant()
    def knows_what_the_model_knows(self) -> None:
        async def read() -> dict[str, RunStatus]:
            found = {run_id: await self.repository.get(run_id) for run_id in self.model}
            return {run_id: run.status for run_id, run in found.items() if run is not None}

        assert self.runner.run(read()) == self.model
        assert self.repository.ids == self.model.keys()
        unfinished = {run_id for run_id, status in self.model.items() if status not in TERMINAL}
        assert {run.run_id for run in self.repository.unfinished()} == unfinished
        counts = self.repository.counts()
        assert counts == {s.value: sum(1 for m in self.model.values() if m is s) for s in RunStatus}
        assert [head.run_id for head in self.repository.heads(newest_first=False)] == sorted(self.model)

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


RepositoryMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRepository = RepositoryMachine.TestCase


# --- the line ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["push", "pop", "remove"])), max_size=60))
def test_the_queue_loses_and_doubles_nothing(steps: list[tuple[str, str]]) -> None:
    queue, model, number = FairQueue(), [], 0
    for module, step in steps:
        if step == "push":
            number += 1
            queue.push(module, f"{module}{number}")
            model.append(f"{module}{number}")
        elif step == "pop":
            got = queue.pop()
            assert (got is None) == (not model)
            if got is not None:
                assert got == next(run for run in model if run[0] == got[0]), "not first come, first served"
                model.remove(got)
        else:
            mine = [run for run in model if run[0] == module]
            assert queue.remove(module, mine[-1] if mine else "x") is bool(mine)
            if mine:
                model.remove(mine[-1])
        assert len(queue) == len(model)


def test_a_flood_of_one_module_does_not_starve_another() -> None:
    queue = FairQueue()
    for n in range(100):
        queue.push("flood", f"f{n}")
    queue.push("small", "s0")
    queue.push("small", "s1")
    assert [queue.pop() for _ in range(4)] == ["f0", "s0", "f1", "s1"]


# --- in the application -----------------------------------------------------------------------------------------------


class HeldExecution:
    """Runs until the test lets it end, or it is stopped."""

    def __init__(self, executor: HeldExecutor, run_id: str) -> None:
        self.run_id = run_id
        self.stopped: StopReason | None = None
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Outcome:
        return await asyncio.shield(self._outcome)

    def stop(self, reason: StopReason) -> None:
        if self.stopped is None:
            self.stopped = reason
            self.end(Outcome(stopped=reason))

    def end(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)


SUCCESS = Outcome(exit_code=0, output=b'{"status": "success", "results": {"n": 1}, "summary": {"k": "v"}}')

# More than what is kept within the run's document.
LARGE = Outcome(exit_code=0, output=b'{"status": "success", "results": {"text": "' + b"x" * 5000 + b'"}}')


class HeldExecutor:
    """The executor protocol without processes: the tests say when a run ends."""

    def __init__(self) -> None:
        self.executions: dict[str, HeldExecution] = {}
        self.launched = asyncio.Condition()
        self.output = b""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def launch(self, spec: Any, observer: Any) -> HeldExecution:
        execution = HeldExecution(self, spec.run_id)
        if self.output:
            observer.on_output(self.output)
        async with self.launched:
            self.executions[spec.run_id] = execution
            self.launched.notify_all()
        return execution

    async def started(self, run_id: str) -> HeldExecution:
        async with asyncio.timeout(PATIENCE), self.launched:
            await self.launched.wait_for(lambda: run_id in self.executions)
        return self.executions[run_id]


@attrs.define
class Held:
    """The application with a held executor and a module `job`."""

    client: Any
    executor: HeldExecutor
    runs: RunService
    state: Path

    async def start(self, status: int = 202, **body: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/module-runs", json={"moduleId": "job", "mode": "async", **body})
        assert answer.status == status, await answer.text()
        return await answer.json()  # type: ignore[no-any-return]

    async def end(self, run_id: str, outcome: Outcome = SUCCESS) -> Run:
        (await self.executor.started(run_id)).end(outcome)
        return await self.ended(run_id)

    async def ended(self, run_id: str) -> Run:
        run = await self.runs.watch.until_finished(run_id, PATIENCE)
        assert run is not None
        assert run.is_terminal
        return run

    async def idle(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.runs.supervisor.until_idle()

    async def retained(self) -> None:
        """Wait until the ends so far have had their consequences: an end is announced before old runs are removed."""
        ended = [task for run_id, task in self.runs.supervisor._conducting.items() if self._has_ended(run_id)]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*ended)

    def _has_ended(self, run_id: str) -> bool:
        return self.runs.repository.live(run_id) is None

    async def status(self, run_id: str) -> str:
        return (await (await self.client.get(f"/v1/module-runs/{run_id}")).json())["status"]  # type: ignore[no-any-return]


@pytest.fixture
def make_held(make_client: Any, tmp_path: Path) -> Any:
    async def make(**changes: Any) -> Held:
        write_module(tmp_path / "roots" / "job")
        client = await make_client(
            source_roots=tmp_path / "roots", **{"workers": 1, "interactive_timeout": 55, **changes}
        )
        runs = client.server.app[RUNS]
        executor = runs.supervisor.executor = HeldExecutor()
        held = Held(client, executor, runs, tmp_path / "state")
        source = {"source": {"path": str(tmp_path / "roots" / "job")}}
        answer = await client.post("/v1/devkit/modules", json=source)
        assert answer.status == 201, await answer.text()
        return held

    return make


async def test_queue_limit_is_a_429_with_retry_after(make_held: Any) -> None:
    held = await make_held(queue_limit=2)
    first = await held.start()
    await held.executor.started(first["runId"])
    waiting = [await held.start() for _ in range(2)]
    before = snapshot(held.state)
    answer = await held.client.post("/v1/module-runs", json={"moduleId": "job", "mode": "async"})
    assert answer.status == 429
    assert (await answer.json())["error"]["code"] == "QUEUE_FULL"
    assert answer.headers["Retry-After"].isdigit()
    assert int(answer.headers["Retry-After"]) > 0
    assert snapshot(held.state) == before
    await held.end(first["runId"])
    await held.executor.started(waiting[0]["runId"])
    await held.start()
    assert len(held.runs.repository.ids) == 4


async def test_parallel_posts_do_not_pass_the_limit(make_held: Any) -> None:
    held = await make_held(queue_limit=3)
    body = {"moduleId": "job", "mode": "async"}
    answers = await asyncio.gather(*(held.client.post("/v1/module-runs", json=body) for _ in range(30)))
    # One executes, three wait.
    assert sorted(answer.status for answer in answers) == [202] * 4 + [429] * 26
    assert len(held.runs.repository.ids) == 4


async def test_external_runs_do_not_count_for_the_queue(make_held: Any) -> None:
    held = await make_held(queue_limit=1)
    await held.client.post("/v1/devkit/modules", json={"manifest": manifest("outside")})
    for _ in range(5):
        await held.start(moduleId="outside")


async def test_cancel_is_idempotent_in_every_state(make_held: Any) -> None:
    held = await make_held()
    executing, queued = await held.start(), await held.start()
    execution = await held.executor.started(executing["runId"])

    async def cancel(run: dict[str, Any]) -> str:
        answer = await held.client.post(f"/v1/module-runs/{run['runId']}/cancel")
        assert answer.status == 200, await answer.text()
        return (await answer.json())["status"]  # type: ignore[no-any-return]

    assert [await cancel(queued) for _ in range(3)] == ["cancelled"] * 3
    assert await cancel(executing) in {"cancel_requested", "cancelled"}
    assert execution.stopped is StopReason.CANCEL
    run = await held.ended(executing["runId"])
    assert run.status is RunStatus.CANCELLED
    assert run.error is not None
    assert run.error.code == "RUN_CANCELLED"
    assert await cancel(executing) == "cancelled"
    assert queued["runId"] not in held.executor.executions, "a cancelled run was executed"
    done = await held.start()
    await held.end(done["runId"])
    await held.idle()
    before = snapshot(held.state)
    assert [await cancel(done) for _ in range(2)] == ["completed"] * 2
    assert snapshot(held.state) == before
    assert (await held.client.post("/v1/module-runs/devkit-run-none/cancel")).status == 404


async def test_a_cancel_that_meets_the_start_stops_the_execution(
    make_held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is on its way from queued to running when the cancel, which saw it queued, comes in."""
    held = await make_held()
    store, entered, go = held.runs.repository._store, asyncio.Event(), asyncio.Event()
    real = store.put

    async def put(collection: str, key: str, document: dict[str, Any]) -> None:
        if document.get("status") == "running":
            entered.set()
            await go.wait()
        await real(collection, key, document)

    monkeypatch.setattr(store, "put", put)
    run = await held.start()
    async with asyncio.timeout(PATIENCE):
        await entered.wait()
    lock, cancelling = held.runs.repository._locks.of(run["runId"]), asyncio.create_task(held.runs.cancel(run["runId"]))
    await until_async(lambda: lock._waiters)  # the cancel waits for the run, which is being stored
    go.set()
    await cancelling
    ended = await held.ended(run["runId"])
    assert ended.status is RunStatus.CANCELLED
    await held.idle()
    execution = held.executor.executions.get(run["runId"])
    assert execution is None or execution.stopped is StopReason.CANCEL, "a cancelled run was left executing"


async def test_a_success_after_the_cancel_request_is_cancelled(make_held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = await make_held()
    run = await held.start()
    execution = await held.executor.started(run["runId"])
    monkeypatch.setattr(execution, "stop", lambda _reason: None)  # the module ends well all the same
    await held.runs.cancel(run["runId"])
    ended = await held.end(run["runId"])
    assert ended.status is RunStatus.CANCELLED


async def test_interactive_start_answers_202_when_it_is_not_finished_in_time(make_held: Any) -> None:
    held = await make_held(interactive_timeout=0.05)
    for body in ({"mode": "interactive"}, {"mode": None}):
        sent = {k: v for k, v in {"moduleId": "job", **body}.items() if v is not None}
        answer = await held.client.post("/v1/module-runs", json=sent)
        assert answer.status == 202
        run = await answer.json()
        assert run["status"] in {"queued", "running"}
        assert run["runId"]
        await held.end(run["runId"])


async def _when_started(held: Held) -> None:
    async with asyncio.timeout(PATIENCE), held.executor.launched:
        await held.executor.launched.wait_for(lambda: bool(held.executor.executions))
    next(iter(held.executor.executions.values())).end(SUCCESS)


async def test_interactive_start_answers_the_output(make_held: Any) -> None:
    held = await make_held()
    ending = asyncio.create_task(_when_started(held))
    answer = await held.start(200, mode="interactive")
    await ending
    assert answer["results"] == {"n": 1}
    assert answer["_run"]["status"] == "completed"


async def test_start_without_mode_answers_the_run_with_its_result(make_held: Any) -> None:
    held = await make_held()
    ending = asyncio.create_task(_when_started(held))
    answer = await held.client.post("/v1/module-runs", json={"moduleId": "job", "parameters": {"p": 1}})
    await ending
    body = await answer.json()
    assert answer.status == 200
    assert (body["status"], body["moduleId"], body["parameters"]) == ("completed", "job", {"p": 1})
    assert body["result"]["results"] == {"n": 1}
    assert body["createdAt"]
    assert body["runId"].startswith("devkit-run-")


# --- retention --------------------------------------------------------------------------------------------------------


async def test_retention_removes_the_oldest_finished_with_all_they_left(make_held: Any) -> None:
    held = await make_held(max_stored_runs=2, workers=2)
    held.executor.output = b"a line\n"
    await held.client.post("/v1/devkit/modules", json={"manifest": manifest("outside")})
    unfinished = [(await held.start(moduleId="outside"))["runId"] for _ in range(4)]
    unfinished.append((await held.start())["runId"])
    await held.executor.started(unfinished[-1])
    finished = []
    for n in range(5):
        run = await held.start()
        finished.append(run["runId"])
        await _save_object(held, run["runId"], f"file{n}".encode())
        await held.end(run["runId"], LARGE)
        await held.retained()
        assert not _mentioned(held, finished[:-2]), "a removed run left something"
    assert held.runs.repository.ids == {*unfinished, *finished[-2:]}
    for run_id in finished[:-2]:
        assert (await held.client.get(f"/v1/module-runs/{run_id}")).status == 404
        assert (await held.client.get(f"/v1/module-runs/{run_id}/logs")).status == 404
    for run_id in finished[-2:]:
        names = [name for name in snapshot(held.state) if run_id in name]
        assert any(name.startswith("objects/") for name in names)
        assert any(name.endswith("output.json") for name in names)
        assert any(name.endswith("log.jsonl") for name in names)
    assert [await held.status(run_id) for run_id in unfinished] == ["queued"] * 4 + ["running"]


def _mentioned(held: Held, run_ids: list[str]) -> bool:
    text = "\n".join(map(str, below(held.state)))
    return any(run_id in text for run_id in run_ids)


async def _save_object(held: Held, run_id: str, content: bytes) -> None:
    import hashlib

    from devkit_api.objects.protocol import Expected
    from devkit_api.objects.routes import OBJECTS

    async def chunks() -> Any:
        yield content

    expected = Expected(len(content), hashlib.sha256(content).hexdigest())
    info = {"content_type": "text/plain", "metadata": {}}
    await held.client.server.app[OBJECTS].put(run_id, "out.txt", chunks(), expected, info)


async def test_a_lower_limit_takes_effect_at_the_next_start(make_client: Any) -> None:
    client = await make_client(max_stored_runs=100)
    await client.post("/v1/devkit/modules", json={"manifest": manifest("outside")})
    ids = []
    for n in range(6):
        run = await (await client.post("/v1/module-runs", json={"moduleId": "outside", "mode": "async"})).json()
        ids.append(run["runId"])
        if n != 0:
            await client.post(f"/v1/module-runs/{run['runId']}/cancel")
    await client.close()
    client = await make_client(max_stored_runs=2)
    listed = (await (await client.get("/v1/module-runs?order=asc")).json())["runs"]
    assert [run["runId"] for run in listed] == [ids[0], *ids[-2:]]


async def test_a_run_removed_while_it_is_read_stays_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JsonFileStore(tmp_path)
    await store.open()
    first = RunRepository(store, 10)
    await first.create(_run())
    await first.transition("devkit-run-1", RunStatus.FAILED)
    repository = RunRepository(store, 10)
    await repository.load()
    real, reading, go = store.get, asyncio.Event(), asyncio.Event()

    async def get(collection: str, key: str) -> Any:
        document = await real(collection, key)
        reading.set()
        await go.wait()
        return document

    monkeypatch.setattr(store, "get", get)
    task = asyncio.create_task(repository.get("devkit-run-1"))
    await reading.wait()
    await repository.remove("devkit-run-1")
    go.set()
    assert await task is None
    assert await repository.get("devkit-run-1") is None
    await store.close()


# --- plans ------------------------------------------------------------------------------------------------------------


async def _plan(held: Held, **body: Any) -> dict[str, Any]:
    answer = await held.client.post(
        "/v1/modules/job/quote", json={"parameters": {"p": [1, 2]}, "mode": "async", **body}
    )
    assert answer.status == 200, await answer.text()
    plan = await answer.json()
    return {
        **plan["preparedRequest"],
        "admissionId": plan["admissionId"],
        "requestFingerprint": plan["requestFingerprint"],
    }


async def _refused_plan(held: Held, body: dict[str, Any]) -> str:
    before, ids = snapshot(held.state), held.runs.repository.ids
    answer = await held.client.post("/v1/module-runs", json=body)
    assert answer.status == 409, await answer.text()
    error = (await answer.json())["error"]
    assert error["code"] == "PLAN_INVALID"
    assert held.runs.repository.ids == ids
    assert snapshot(held.state) == before
    return error["message"]  # type: ignore[no-any-return]


async def test_a_plan_is_one_run_however_often_it_is_started(make_held: Any) -> None:
    held = await make_held()
    body = await _plan(held)
    assert not held.runs.repository.ids
    answers = await asyncio.gather(*(held.client.post("/v1/module-runs", json=body) for _ in range(8)))
    assert {answer.status for answer in answers} == {202}
    [run_id] = {(await answer.json())["runId"] for answer in answers}
    assert held.runs.repository.ids == {run_id}
    assert (await held.end(run_id)).status is RunStatus.COMPLETED
    again = await held.start(**body)
    assert (again["runId"], again["status"]) == (run_id, "completed")
    await held.idle()
    assert len(held.executor.executions) == 1


async def test_altered_and_unknown_plans_are_refused(make_held: Any) -> None:
    held = await make_held()
    body = await _plan(held)
    for change in (
        {"parameters": {"p": [1, 2, 3]}},
        {"mode": "interactive"},
        {"maxRuntimeSeconds": 1},
        {"requestFingerprint": "0" * 64},
        {"requestFingerprint": "é"},
        {"admissionId": "not-an-id"},
        {"admissionId": "../../etc/passwd"},
        {"admissionId": "00000000-0000-4000-8000-000000000000"},
    ):
        await _refused_plan(held, {**body, **change})
    assert (await held.start(**body))["runId"]


async def test_an_expired_plan_is_refused_and_a_started_one_still_found(
    make_held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await make_held()
    used, unused = await _plan(held), await _plan(held, parameters={})
    run = await held.start(**used)
    await held.executor.started(run["runId"])

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(UTC) + timedelta(hours=2)

    monkeypatch.setattr(plans, "datetime", Later)
    assert "expired" in await _refused_plan(held, unused)
    assert (await held.start(**used))["runId"] == run["runId"]


async def test_a_plan_of_changed_source_is_refused(make_held: Any, tmp_path: Path) -> None:
    held = await make_held()
    body = await _plan(held)
    folder = write_module(tmp_path / "roots" / "job", 'return self.success(results={"changed": True})')
    await held.client.post("/v1/devkit/modules", json={"source": {"path": str(folder)}})
    assert "changed" in await _refused_plan(held, body)


# --- logs -------------------------------------------------------------------------------------------------------------


async def _pages(client: Any, run_id: str, order: str, limit: int) -> list[str]:
    messages: list[str] = []
    token = ""
    for _ in range(1000):
        address = f"/v1/module-runs/{run_id}/logs?order={order}&limit={limit}{token}"
        body = await (await client.get(address)).json()
        assert len(body["events"]) <= limit
        assert body["nextForwardToken"]
        if not body["events"]:
            return messages
        messages += [event["message"] for event in body["events"]]
        token = f"&nextToken={body['nextForwardToken']}"
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_log_pages_have_no_gap_and_no_repeat_and_survive_a_restart(
    make_held: Any, make_client: Any, limit: int
) -> None:
    lines = [f"line {n} é \u2028 [/x]" for n in range(100)]
    held = await make_held()
    held.executor.output = "".join(f"{line}\n" for line in lines).encode()
    run_id = (await held.start())["runId"]
    await held.executor.started(run_id)
    assert await _pages(held.client, run_id, "asc", limit) == lines, "while it executes"
    first = await (await held.client.get(f"/v1/module-runs/{run_id}/logs?limit=40")).json()
    await held.end(run_id)
    assert await _pages(held.client, run_id, "desc", limit) == lines[::-1]
    with held.runs.files.log(run_id).open("ab") as file:
        file.write(b'{"message": "cut by a cra')
    await held.client.close()
    client = await make_client()
    assert await _pages(client, run_id, "asc", limit) == lines
    assert await _pages(client, run_id, "desc", limit) == lines[::-1]
    address = f"/v1/module-runs/{run_id}/logs?limit=1000&nextToken={first['nextForwardToken']}"
    rest = await (await client.get(address)).json()
    assert [event["message"] for event in rest["events"]] == lines[40:]


async def test_the_token_of_a_page_at_the_end_goes_on_with_what_comes_later(make_held: Any) -> None:
    held = await make_held()
    held.executor.output = b"one\n"
    run_id = (await held.start())["runId"]
    await held.executor.started(run_id)
    address = f"/v1/module-runs/{run_id}/logs"
    first = await (await held.client.get(address)).json()
    empty = await (await held.client.get(f"{address}?nextToken={first['nextForwardToken']}")).json()
    assert empty["events"] == []
    held.runs.logs._writers[run_id].on_output(b"two\n")
    later = await (await held.client.get(f"{address}?nextToken={empty['nextForwardToken']}")).json()
    assert [event["message"] for event in later["events"]] == ["two"]
