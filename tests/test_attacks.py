"""What a fresh pair of eyes broke once, and what must stay whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit_api.errors import ObjectStoreUnavailable
from devkit_api.lifetimes import BUNDLES, STORE
from devkit_api.modules.contracts import contract_problem, find_violations
from devkit_api.modules.models import Origin
from devkit_api.modules.publish.routes import PUBLISH
from devkit_api.modules.routes import REGISTRY
from devkit_api.objects.routes import OBJECTS
from devkit_api.runs.routes import RUNS
from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until_async

ODD_LINES = """
import os, sys
self.logger.warning("cannot read %s", os.fsdecode(b"run_\\xff.raw"))
print('{"timestamp": "x", "message": "m", "level": []}')
print('{"timestamp": "x", "message": "\\\\ud800"}')
sys.stdout.write("more\\n" * 40_000)
return self.success(results={"n": 2**63 if input_data.get("big") else 1})
"""


@pytest.mark.process
def test_odd_log_lines_and_numbers_do_not_cost_the_run(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    write_module(tmp_path / "mods" / "odd", ODD_LINES)
    leak = 'import os; raise ValueError("\\x1b[2J" + os.environ["HLA_API_KEY"])'
    write_module(tmp_path / "mods" / "leaky", leak)
    with make_devkit(modules=tmp_path / "mods") as devkit:
        fine = devkit.wait(devkit.run("odd")["runId"])
        big = devkit.wait(devkit.run("odd", {"big": True})["runId"])
        leaky = devkit.wait(devkit.run("leaky")["runId"])
        assert fine["status"] == "completed", fine["error"]
        assert big["error"]["code"] == "RUN_OUTPUT_INVALID"
        assert "64 bits" in big["error"]["message"]
        log = devkit.request("GET", f"/v1/module-runs/{leaky['runId']}/logs").text
        for text in (leaky["error"]["message"], log):
            assert "\x1b" not in text
            assert "\\u001b" not in text
            assert "hla_runtoken_devkit" not in text


async def start(client: Any, module_id: str = "elsewhere", **fields: Any) -> dict[str, Any]:
    body = {"moduleId": module_id, "parameters": {}, "mode": "async", **fields}
    answer = await client.post("/v1/module-runs", json=body)
    assert answer.status == 202, await answer.text()
    return await answer.json()


async def register(client: Any, **changes: Any) -> None:
    answer = await client.post("/v1/devkit/modules", json={"manifest": manifest("elsewhere", **changes)})
    assert answer.status in {200, 201}


async def test_the_first_of_concurrent_completions_wins_and_stays(make_client: Any) -> None:
    client = await make_client()
    await register(client)
    for _ in range(10):
        run = await start(client)
        path = f"/v1/module-runs/{run['runId']}"

        async def complete(n: int, path: str = path, token: str = run["token"]) -> int:
            body = {"status": "completed", "result": {"status": "success", "results": {"n": n, "fill": "x" * 50_000}}}
            async with client.post(path + "/complete", json=body, headers={"X-API-Key": token}) as answer:
                return answer.status

        statuses = await asyncio.gather(*(complete(n) for n in range(4)))
        assert set(statuses) <= {200, 401}, statuses  # the token dies with the run
        first = await (await client.get(path + "/result")).json()
        await asyncio.gather(*(complete(n) for n in range(9, 12)))
        assert await (await client.get(path + "/result")).json() == first


async def test_an_external_run_is_cancelled_in_one_step_and_a_half_cancelled_one_is_settled(
    make_client: Any, tmp_path: Path
) -> None:
    client = await make_client()
    await register(client)
    run = await start(client)
    token = {"X-API-Key": run["token"]}
    await client.post(f"/v1/module-runs/{run['runId']}/heartbeat", headers=token)
    cancelled = await (await client.post(f"/v1/module-runs/{run['runId']}/cancel")).json()
    assert cancelled["status"] == "cancelled"
    other = await start(client)
    await client.close()
    [path] = (tmp_path / "state" / "runs").glob(f"*/{other['runId']}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "cancel_requested"}))
    again = await make_client()
    settled = await (await again.get(f"/v1/module-runs/{other['runId']}")).json()
    assert settled["status"] == "cancelled"


async def test_deleting_a_version_leaves_runs_of_others_alone(make_client: Any) -> None:
    client = await make_client()
    await register(client, version="1.0.0")
    await register(client, version="2.0.0")
    run = await start(client, version="2.0.0")
    assert (await client.delete("/v1/devkit/modules/elsewhere?version=1.0.0&force=true")).status == 200
    assert (await (await client.get(f"/v1/module-runs/{run['runId']}")).json())["status"] == "queued"


async def test_concurrent_register_and_delete_never_fail_inside(make_client: Any) -> None:
    client = await make_client()

    async def call(method: str, path: str, **options: Any) -> int:
        async with client.request(method, path, **options) as answer:
            return answer.status

    for _ in range(10):
        body = {"json": {"manifest": manifest("elsewhere")}}
        calls = [call("POST", "/v1/devkit/modules", **body) for _ in range(2)]
        calls += [call("DELETE", "/v1/devkit/modules/elsewhere") for _ in range(4)]
        assert set(await asyncio.gather(*calls)) <= {200, 201, 404}


async def test_a_problem_noted_while_a_module_is_deleted_does_not_bring_it_back(
    make_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = (await make_client()).server.app
    registry, store = app[REGISTRY], app[STORE]
    folder = write_module(tmp_path / "mods" / "mine", "return self.success(results={})")
    module = (await registry.register_folder(folder, Origin.DIRECTORY)).module
    put, arrived, go_on = store.put, asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> None:
        arrived.set()
        await go_on.wait()
        await put(*arguments)

    monkeypatch.setattr(store, "put", held)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as both:
        both.create_task(registry.note_problem(str(folder), "its manifest.json is no JSON"))
        await arrived.wait()
        both.create_task(registry.delete(module.module_id, None, force=False, runs=app[RUNS]))
        await asyncio.sleep(0)  # the deletion begins: it goes as far as it may
        go_on.set()
    assert registry.find(module.module_id) is None
    await registry.load()
    assert registry.find(module.module_id) is None


async def test_reset_meets_starts_and_leaves_nothing_half(make_client: Any) -> None:
    client = await make_client()
    await register(client)

    async def try_start() -> None:
        body = {"moduleId": "elsewhere", "parameters": {}, "mode": "async"}
        async with client.post("/v1/module-runs", json=body) as answer:
            assert answer.status in {202, 404, 503}
            if answer.status == 202:
                run = await answer.json()
                async with client.post(f"/v1/module-runs/{run['runId']}/cancel") as cancelled:
                    assert cancelled.status in {200, 404}

    async def reset() -> None:
        async with client.post("/v1/devkit/reset") as answer:
            assert answer.status == 200

    await asyncio.gather(*(try_start() for _ in range(30)), reset(), *(try_start() for _ in range(30)))
    assert (await (await client.get("/v1/module-runs")).json())["pagination"]["total"] == 0
    assert not list((client.app_state / "runs").glob("*/*.json"))


async def test_reset_is_closed_to_its_end_and_one_at_a_time(make_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held where it waits for an examination: after the runs are gone, and before the modules are."""
    client = await make_client()
    publish = client.server.app[PUBLISH]
    clear, arrived, go_on = publish.clear, asyncio.Queue[None](), asyncio.Semaphore(0)

    async def held() -> None:
        arrived.put_nowait(None)
        await go_on.acquire()
        await clear()

    async def reset() -> None:
        async with client.post("/v1/devkit/reset") as answer:
            assert answer.status == 200

    async def assert_refused() -> None:
        await register(client)
        async with client.post("/v1/module-runs", json={"moduleId": "elsewhere", "parameters": {}}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), await answer.text()
        async with client.post("/v1/modules/elsewhere/quote", json={"parameters": {}}) as answer:
            assert answer.status == 503

    monkeypatch.setattr(publish, "clear", held)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as both:
        both.create_task(reset())
        both.create_task(reset())
        await arrived.get()
        await assert_refused()
        assert arrived.empty()  # the other one waits for its turn
        go_on.release()
        await arrived.get()
        await assert_refused()
        go_on.release()
    await register(client)
    assert (await start(client))["status"] == "queued"
    assert (await (await client.get("/v1/module-runs")).json())["pagination"]["total"] == 1


async def test_a_plan_whose_run_left_does_not_run_again(make_client: Any) -> None:
    client = await make_client(max_stored_runs=1)
    await register(client)
    plan = await (await client.post("/v1/modules/elsewhere/quote", json={"parameters": {}, "mode": "async"})).json()
    body = {**plan["preparedRequest"], **{k: plan[k] for k in ("admissionId", "requestFingerprint")}}
    first = await (await client.post("/v1/module-runs", json=body)).json()
    await client.post(f"/v1/module-runs/{first['runId']}/cancel")
    for _ in range(2):
        run = await start(client)
        await client.post(f"/v1/module-runs/{run['runId']}/cancel")
    assert (await client.get(f"/v1/module-runs/{first['runId']}")).status == 404
    again = await client.post("/v1/module-runs", json=body)
    assert (await again.json())["error"]["code"] == "PLAN_INVALID"


@pytest.mark.parametrize(
    ("collection", "content"),
    [
        ("refresh-tokens", {"expires": "x"}),
        ("runs", {"run_id": "a", "finished_at": 5}),
        ("modules", {"module_id": "a", "version": "1.0.0", "registered_at": 4, "manifest": {}, "bundle": None}),
        ("modules", {"module_id": "a", "version": "1.0.0", "registered_at": "x", "manifest": None, "bundle": None,
                     "origin": "external"}),
        ("plans", {"x": 1}),
    ],
)  # fmt: skip
async def test_damaged_documents_cost_themselves_and_nothing_else(
    make_client: Any, tmp_path: Path, collection: str, content: dict[str, Any]
) -> None:
    import hashlib

    shard = hashlib.blake2b(b"damaged", digest_size=1).hexdigest()
    folder = tmp_path / "state" / collection / shard
    folder.mkdir(parents=True)
    (folder / "damaged.json").write_text(json.dumps(content))
    client = await make_client()
    for path in ("/v1/modules", "/v1/module-runs", "/v1/system/health"):
        assert (await client.get(path)).status == 200


def test_unique_items_are_found_in_one_pass_and_schemas_that_are_none_are_refused() -> None:
    unique = {"type": "object", "properties": {"s": {"type": "array", "uniqueItems": True}}}
    assert find_violations(unique, {"s": [{"id": n} for n in range(20_000)]}) == []
    assert find_violations(unique, {"s": [{"id": 1}, {"id": 1}]})[0]["path"] == "/s"
    assert contract_problem({"type": "object", "title": "x", "allOf": [{"$ref": "#/title"}]}) is not None
    nested: dict[str, Any] = {"$ref": "#"}
    for _ in range(20):
        nested = {"allOf": [nested]}
    deep: dict[str, Any] = {}
    for _ in range(58):
        deep = {"a": deep}
    assert find_violations({"type": "object", "properties": {"a": nested}}, deep)[0]["path"] in {"", "/a"}


def test_unknown_fields_are_named() -> None:
    schema = {"type": "object", "additionalProperties": False, "properties": {"peptides": {}}}
    [finding] = find_violations(schema, {"peptide": 1})
    assert "peptide" in finding["message"]
    assert finding["expected"] == "one of peptides"


async def test_a_module_registered_while_the_devkit_is_reset_has_its_source(
    make_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held when its source is stored and its name is not: the source belongs to no module then, and was swept."""
    client = await make_client()
    registry, bundles = client.server.app[REGISTRY], client.server.app[BUNDLES]
    folder = write_module(tmp_path / "mods" / "mine", "return self.success(results={})")
    register, arrived, go_on = registry._register, asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> Any:
        arrived.set()
        await go_on.wait()
        return await register(*arguments)

    async def reset() -> None:
        async with client.post("/v1/devkit/reset") as answer:
            assert answer.status == 200

    monkeypatch.setattr(registry, "_register", held)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as both:
        registering = both.create_task(registry.register_folder(folder, Origin.DIRECTORY))
        await arrived.wait()
        resetting = both.create_task(reset())
        # Either it is done by itself, or it waits for the registration.
        await until_async(lambda: resetting.done() or registry._gate.is_closed)
        go_on.set()
    assert registering.result().created
    assert all([await bundles.is_intact(module.bundle) for module in registry.every() if module.bundle])
    monkeypatch.setattr(registry, "_register", register)
    again = await registry.register_folder(folder, Origin.DIRECTORY)
    assert again.created and await bundles.is_intact(again.module.bundle)


async def test_of_two_looks_at_a_folder_the_later_one_stays(
    make_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held when it has seen the folder as it was before a save, while another one comes that sees the save."""
    client = await make_client()
    registry, bundles = client.server.app[REGISTRY], client.server.app[BUNDLES]
    folder = write_module(tmp_path / "mods" / "mine", 'return self.success(results={"is": "old"})')
    add_folder, arrived, go_on = bundles.add_folder, asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> Any:
        found = await add_folder(*arguments)
        if not arrived.is_set():
            arrived.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(bundles, "add_folder", held)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as both:
        both.create_task(registry.register_folder(folder, Origin.DIRECTORY))
        await arrived.wait()
        write_module(folder, 'return self.success(results={"is": "new"})')
        later = both.create_task(registry.register_folder(folder, Origin.PATH))
        # Either it is done by itself, or it waits for the earlier one.
        await until_async(lambda: later.done() or registry._folders.of(str(folder))._waiters)
        go_on.set()
    main = bundles.path(registry.get("mine").bundle.digest) / "backend" / "main.py"
    assert "new" in main.read_text()


async def test_a_reset_that_broke_off_has_the_watched_modules_back(
    make_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path / "mods" / "mine", "return self.success(results={})")
    client = await make_client(modules_dir=tmp_path / "mods")
    known = (await (await client.get("/v1/modules")).json())["items"]

    async def fail(_namespace: str) -> None:
        raise ObjectStoreUnavailable(reason="it does not answer")

    monkeypatch.setattr(client.server.app[OBJECTS], "delete_namespace", fail)
    assert (await client.post("/v1/devkit/reset")).status == 503
    assert [m["id"] for m in (await (await client.get("/v1/modules")).json())["items"]] == [m["id"] for m in known]
    assert len(known) == 1
