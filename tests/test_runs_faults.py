"""Runs when the disk is full or the devkit stops: none lost, none begun twice, each with a reason that is true."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from devkit_api.execution.protocol import StopReason
from devkit_api.runs.models import RunStatus
from devkit_api.state import StateError
from tests.support.waiting import until_async
from tests.test_runs_rules import LARGE, SUCCESS, make_held  # noqa: F401  a fixture


def _refuse(monkeypatch: pytest.MonkeyPatch, held: Any, *statuses: str, times: int = 1) -> list[str]:
    """The disk is full for the next `times` documents in these states."""
    store, refused = held.runs.repository._store, list[str]()
    real = store.put

    async def put(collection: str, key: str, document: dict[str, Any]) -> None:
        if document.get("status") in statuses and len(refused) < times:
            refused.append(document["status"])
            raise StateError("runs: No space left on device")
        await real(collection, key, document)

    monkeypatch.setattr(store, "put", put)
    return refused


async def test_start_that_cannot_be_stored_fails_the_run_and_nothing_executes(
    make_held: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await make_held()
    refused = _refuse(monkeypatch, held, "running", "failed", times=2)
    run = await held.ended((await held.start())["runId"])
    assert refused == ["running", "failed"]
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.code == "RUN_NOT_STARTED"
    assert run.run_id not in held.executor.executions
    assert (await held.end((await held.start())["runId"], SUCCESS)).status is RunStatus.COMPLETED


async def test_log_of_a_run_whose_executor_fails_is_closed(make_held: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    held = await make_held()

    async def launch(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(held.executor, "launch", launch)
    run = await held.ended((await held.start())["runId"])
    assert run.error is not None
    assert run.error.code == "RUN_NOT_ACCOUNTED"
    assert not held.runs.logs._writers


async def test_run_that_has_not_begun_when_the_devkit_stops_stays_queued(
    make_held: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await make_held()
    first = await held.start()
    execution = await held.executor.started(first["runId"])
    second = await held.start()
    supervisor = held.runs.supervisor
    # The worker takes the second run, and the devkit stops before it does anything with it.
    real = asyncio.create_task

    def create_task(work: Any, **options: Any) -> Any:
        if options.get("name") == f"conduct-{second['runId']}":
            supervisor._closing = True
        return real(work, **options)

    with monkeypatch.context() as patch:
        patch.setattr("devkit_api.runs.supervisor.asyncio.create_task", create_task)
        execution.end(SUCCESS)
        await held.ended(first["runId"])
        await held.idle()
    assert held.runs.repository.live(second["runId"]).status is RunStatus.QUEUED
    assert second["runId"] not in held.executor.executions
    await supervisor.close()


async def test_interrupted_run_is_settled_later_when_the_disk_is_full_at_the_start(
    make_held: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await make_held()
    run = await held.start()
    execution = await held.executor.started(run["runId"])
    monkeypatch.setattr(execution, "stop", lambda _reason: None)
    held.runs.supervisor._conducting.clear()  # as a new server finds it
    refused = _refuse(monkeypatch, held, "failed")
    await held.runs.supervisor.recover()
    ended = await held.ended(run["runId"])
    assert refused == ["failed"]
    assert ended.error is not None
    assert ended.error.code == "RUN_INTERRUPTED"
    monkeypatch.undo()
    execution.stop(StopReason.SHUTDOWN)


async def test_asking_for_changes_of_ended_runs_costs_no_memory(make_held: Any) -> None:  # noqa: F811
    held = await make_held()
    run = await held.end((await held.start())["runId"])
    assert await held.runs.repository.change(run.run_id, token_serial="0" * 16) is None
    assert len(held.runs.repository._locks) == 0


@pytest.mark.parametrize("outcome", [SUCCESS, LARGE], ids=["small", "large"])
async def test_output_is_kept_whatever_its_size(make_held: Any, outcome: Any) -> None:  # noqa: F811
    held = await make_held()
    run = await held.end((await held.start())["runId"], outcome)
    repository = held.runs.repository
    await repository.load()  # what is on the disk
    repository._cache.clear()
    stored = await repository.get(run.run_id)
    assert await held.runs.output(stored) == json.loads(outcome.output)
    assert "output" not in (await (await held.client.get(f"/v1/module-runs/{run.run_id}")).json())


async def test_run_that_is_waited_for_and_begins_at_once_is_stored_twice(
    make_held: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await make_held()
    stored = _stored(monkeypatch, held)

    async def wait() -> dict[str, Any]:
        return await (await held.client.post("/v1/module-runs", json={"moduleId": "job"})).json()  # type: ignore[no-any-return]

    first = asyncio.create_task(wait())
    await until_async(lambda: held.executor.executions)
    (run_id,) = held.executor.executions
    second = asyncio.create_task(wait())  # no worker is free: it is queued
    await until_async(lambda: held.runs.supervisor.queued)
    await held.end(run_id, SUCCESS)
    assert (await first)["status"] == "completed"
    other = await _next(held, run_id)
    await held.end(other, SUCCESS)
    assert (await second)["status"] == "completed"
    assert stored[run_id] == ["running", "completed"]
    assert stored[other] == ["queued", "running", "completed"]


async def _next(held: Any, known: str) -> str:
    return str((await until_async(lambda: set(held.executor.executions) - {known})).pop())


async def test_run_that_cannot_be_stored_gives_its_worker_back(
    make_held: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await make_held()
    _refuse(monkeypatch, held, "running")
    assert (await held.client.post("/v1/module-runs", json={"moduleId": "job"})).status == 503
    assert held.runs.supervisor.executing == 0
    assert (await held.end((await held.start())["runId"])).status is RunStatus.COMPLETED


def _stored(monkeypatch: pytest.MonkeyPatch, held: Any) -> dict[str, list[str]]:
    """The states in which each run is stored, from now on."""
    store, stored = held.runs.repository._store, dict[str, list[str]]()
    real = store.put

    async def put(collection: str, key: str, document: dict[str, Any]) -> None:
        if collection == "runs":
            stored.setdefault(key, []).append(document["status"])
        await real(collection, key, document)

    monkeypatch.setattr(store, "put", put)
    return stored
