"""The run storage broker, used by a real module through the real SDK."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest
import requests

from devkit_api.errors import RunQuotaExceeded
from devkit_api.objects.protocol import ObjectStore
from devkit_api.objects.quota import RunQuota
from devkit_api.objects.routes import OBJECTS, RUN_STORAGE
from tests.objects.conftest import BIG, FILES, QUOTA
from tests.support.modules import manifest
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until_async

pytestmark = pytest.mark.process


def test_many_files_and_a_large_one_come_back_as_they_were_saved(
    devkit: DevkitProcess, saved_run: dict[str, Any]
) -> None:
    run = saved_run
    results = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]
    assert results == {"listed": FILES, "sorted": True}
    files, token = [], None
    while True:
        query = {"limit": 40, **({"nextToken": token} if token else {})}
        page = devkit.request("GET", f"/v1/module-runs/{run['runId']}/files", params=query).json()
        files += page["files"]
        token = page["nextToken"]
        if token is None:
            break
    assert [file["name"] for file in files] == ["big.bin", *(f"many/{i:04}.txt" for i in range(FILES))]
    digest, size = hashlib.sha256(), 0
    with requests.get(files[0]["url"], stream=True, timeout=PATIENCE) as answer:
        for chunk in answer.iter_content(1024 * 1024):
            digest.update(chunk)
            size += len(chunk)
    assert (size, digest.hexdigest()) == (BIG, files[0]["sha256"])
    assert requests.get(files[8]["url"], timeout=PATIENCE).text == "file 7"


def test_a_run_may_not_save_more_than_its_quota(devkit: DevkitProcess) -> None:
    run = devkit.wait(devkit.run("saver", {"big": QUOTA + 1})["runId"])
    assert run["status"] == "failed"
    assert "may save at most" in run["error"]["message"]


def test_what_was_deleted_no_longer_counts_and_the_end_of_the_run_ends_all_puts(devkit: DevkitProcess) -> None:
    devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    run = devkit.run("elsewhere")
    path, token = f"/v1/module-runs/{run['runId']}", run["token"]

    def ask(**body: object) -> requests.Response:
        return devkit.request("POST", f"{path}/storage", key=token, json=body)

    def put(key: str, size: int) -> requests.Response:
        checksum = base64.b64encode(hashlib.sha256(bytes(size)).digest()).decode()
        return ask(action="put", key=key, contentLength=size, contentSha256=checksum)

    almost = QUOTA - 100
    assert put("one", almost).status_code == 200
    assert put("one", almost).status_code == 200  # the same name counts once
    refused = put("two", almost)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "RUN_QUOTA_EXCEEDED")
    assert ask(action="delete", key="one").json()["deleted"] is True
    grant = put("two", almost).json()
    small = put("small", 3).json()
    stored = requests.put(small["url"], data=bytes(3), headers=small["headers"], timeout=PATIENCE)
    assert stored.status_code == 200
    assert ask(action="get", key="small").status_code == 200
    assert devkit.request("POST", f"{path}/complete", key=token, json={"status": "completed"}).status_code == 200
    assert ask(action="list", prefix="").status_code == 401
    if not devkit.settings.get("s3_endpoint"):
        late = requests.put(grant["url"], data=bytes(almost), headers=grant["headers"], timeout=PATIENCE)
        assert (late.status_code, late.json()["error"]["code"]) == (403, "SIGNATURE_INVALID")
    names = [file["name"] for file in devkit.request("GET", f"{path}/files").json()["files"]]
    assert names == ["small"]


@pytest.mark.parametrize("devkit", ["files"], indirect=True)  # a presigned address of a bucket cannot be taken back
def test_a_grant_given_back_by_a_deletion_stores_nothing(devkit: DevkitProcess) -> None:
    devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    run = devkit.run("elsewhere")
    path, half = f"/v1/module-runs/{run['runId']}", QUOTA // 2 + 1

    def ask(**body: object) -> requests.Response:
        return devkit.request("POST", f"{path}/storage", key=run["token"], json=body)

    def put(grant: Any) -> tuple[int, str]:
        answer = requests.put(grant["url"], data=bytes(half), headers=grant["headers"], timeout=PATIENCE)
        return answer.status_code, answer.json()["error"]["code"] if answer.status_code != 200 else ""

    checksum = base64.b64encode(hashlib.sha256(bytes(half)).digest()).decode()
    asked = {"action": "put", "contentLength": half, "contentSha256": checksum}
    grants = []
    for name in ("a", "b", "c"):
        grants.append(ask(**asked, key=name).json())
        if name != "c":
            assert ask(action="delete", key=name).status_code == 200
    assert [put(grant) for grant in grants] == [(403, "SIGNATURE_INVALID")] * 2 + [(200, "")]
    assert put(grants[2]) == (200, "")  # again, as after an answer that was lost
    assert ask(**asked, key="d").json()["error"]["code"] == "RUN_QUOTA_EXCEEDED"
    assert [one["key"] for one in ask(action="list", prefix="").json()["objects"]] == ["c"]


async def test_a_deletion_waits_for_the_file_that_is_being_put_in_place(
    make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, its bytes would be given back, and the file would be there all the same."""
    client = await make_client(max_run_bytes=1024)
    app = client.server.app
    await client.post("/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    run = await (await client.post("/v1/module-runs", json={"moduleId": "elsewhere", "parameters": {}})).json()

    async def ask(**body: Any) -> Any:
        path, headers = f"/v1/module-runs/{run['runId']}/storage", {"X-API-Key": run["token"]}
        return await (await client.post(path, json=body, headers=headers)).json()

    sha256 = base64.b64encode(hashlib.sha256(bytes(1000)).digest()).decode()
    asked = {"action": "put", "contentLength": 1000, "contentSha256": sha256}
    grant = await ask(**asked, key="a")
    real, arrived, go_on = app[OBJECTS]._keep, asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> Any:
        arrived.set()
        await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(app[OBJECTS], "_keep", held)
    url = grant["url"].replace("127.0.0.1:4100", f"127.0.0.1:{client.port}")
    putting = asyncio.create_task(client.anonymous.put(url, data=bytes(1000), headers=grant["headers"]))
    await arrived.wait()
    deleting = asyncio.create_task(ask(action="delete", key="a"))
    lock = app[RUN_STORAGE].quota.alone_with(run["runId"], "a")
    await until_async(lambda: deleting.done() or lock._waiters)
    go_on.set()
    assert (await putting).status == 200
    await deleting
    assert (await ask(action="list", prefix=""))["objects"] == []
    assert "url" in await ask(**asked, key="b")


async def test_puts_of_before_a_restart_are_covered(store: ObjectStore) -> None:
    quota = RunQuota(store, max_bytes=1000, max_files=2)
    assert quota.covers("run", "a", 600)
    await quota.take("run", "a", 600)
    assert quota.covers("run", "a", 600)
    assert not quota.covers("run", "a", 601)
    quota.give_back("run", "a")
    assert not quota.covers("run", "a", 0)


async def test_the_number_of_files_is_bounded_as_well(store: ObjectStore) -> None:
    quota = RunQuota(store, max_bytes=1000, max_files=2)
    await quota.take("run", "a", 10)
    await quota.take("run", "b", 10)
    await quota.take("run", "a", 20)
    with pytest.raises(RunQuotaExceeded, match="2 files"):
        await quota.take("run", "c", 1)
    quota.give_back("run", "a")
    await quota.take("run", "c", 980)
    with pytest.raises(RunQuotaExceeded, match="1000 bytes"):
        await quota.take("run", "c", 1000)
    await quota.take("another", "a", 1000)
