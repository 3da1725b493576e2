"""Two devkits in one bucket: neither removes or exports what the other one put."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from devkit_api.objects.describe import describe
from devkit_api.objects.namespaces import CATALOG_IMPORTS, UPLOADS, VIEW_EXPORTS, run_inputs
from devkit_api.objects.s3 import S3ObjectStore
from devkit_api.runs.routes import RUNS
from devkit_api.settings import Settings
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.dump import export
from devkit_api.transfer.layout import FORMAT, HEADER
from devkit_api.transfer.load import load
from tests.objects.test_stores import INFO, put, put_part
from tests.support.modules import manifest
from tests.support.s3 import load_s3, make_versioned, s3_settings

SHARED = (UPLOADS, CATALOG_IMPORTS, VIEW_EXPORTS)
Open = Callable[[str], Awaitable[S3ObjectStore]]


@pytest.fixture
async def open_store(s3_endpoint: str, bucket: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the bucket as the devkit of a state directory does."""
    opened = []

    async def make(state: str) -> S3ObjectStore:
        store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / state), tmp_path / state)
        await store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.close()


async def names(store: S3ObjectStore, namespace: str) -> list[str]:
    return [item.name for item in (await store.list(namespace))[0]]


@pytest.mark.parametrize("versions", [False, True])
async def test_a_devkit_empties_its_own_part_of_a_bucket(
    open_store: Open, s3_endpoint: str, bucket: str, versions: bool
) -> None:
    if versions:
        make_versioned(s3_endpoint, bucket)
    ours, theirs = await open_store("ours"), await open_store("theirs")
    for store, who in ((ours, "ours"), (theirs, "theirs")):
        for namespace in SHARED:
            stored = await put(store, f"{who}/a", b"bytes", namespace)
            await put(store, f"{who}/a", b"other bytes", namespace)
            assert stored.metadata == INFO["metadata"]
        begun = await store.begin_parts(UPLOADS, f"{who}/parts", INFO)
        made = await store.complete_parts(begun, [await put_part(store, begun, 1, b"in parts")])
        assert made.metadata == INFO["metadata"]
    ours = await open_store("ours")  # as after a restart
    for namespace in SHARED:
        await ours.delete_namespace(namespace)
        assert {name.split("/")[0] for name in await names(ours, namespace)} == {"theirs"}
    assert await names(theirs, UPLOADS) == ["theirs/a", "theirs/parts"]
    await put(ours, "ours/a", b"again", UPLOADS)
    info = await ours.stat(UPLOADS, "ours/a")
    assert info is not None
    assert len(await ours.versions(UPLOADS, info)) == 1


async def test_a_reset_leaves_the_uploads_of_another_devkit(
    make_client: Any, open_store: Open, s3_endpoint: str, bucket: str
) -> None:
    theirs = await open_store("theirs")
    await put(theirs, "theirs/a.csv", b"bytes", UPLOADS)
    client = await make_client(**s3_settings(s3_endpoint, bucket))
    assert (await client.post("/v1/devkit/inputs/a.csv", data=b"ours")).status == 201
    assert len(await names(theirs, UPLOADS)) == 2
    assert (await client.post("/v1/devkit/reset")).status == 200
    assert await names(theirs, UPLOADS) == ["theirs/a.csv"]


async def test_a_reset_takes_the_inputs_of_plans_nobody_started(
    make_client: Any, open_store: Open, s3_endpoint: str, bucket: str
) -> None:
    client, store = await make_client(**s3_settings(s3_endpoint, bucket)), await open_store("looking")
    await client.post("/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    uploaded = await (await client.post("/v1/devkit/inputs/a.csv", data=b"ours")).json()
    context = {"sources": [{"name": "cohort", "uri": uploaded["uri"]}]}
    answer = await client.post("/v1/modules/elsewhere/quote", json={"dataContext": context, "parameters": {}})
    assert answer.status == 200, await answer.text()
    [run_id] = await client.server.app[RUNS].plans.run_ids()
    assert await names(store, run_inputs(run_id)) == ["manifest.json", "sources/cohort"]
    assert (await client.post("/v1/devkit/reset")).status == 200
    assert await names(store, run_inputs(run_id)) == []


def _progress(_done: int, _total: int) -> None:
    pass


def _settings(endpoint: str, bucket: str, state: Path) -> Settings:
    return attrs.evolve(load_s3(endpoint, bucket, state), catalogs=False)


async def test_an_export_holds_the_files_of_one_devkit_and_its_import_takes_them_over(
    open_store: Open, s3_endpoint: str, bucket: str, tmp_path: Path
) -> None:
    theirs, ours = await open_store("theirs"), await open_store("ours")
    await put(theirs, "theirs/a.csv", b"bytes", UPLOADS)
    await put(ours, "ours/a.csv", b"bytes", UPLOADS)
    file, again, last = (tmp_path / name for name in ("one.tar.gz", "two.tar.gz", "three.tar.gz"))
    told = await export(_settings(s3_endpoint, bucket, tmp_path / "ours"), file, _progress)
    assert told.files == 2  # the bytes, and what is known of them
    # Into a bucket of its own: nothing of the others comes along.
    moved = _settings(s3_endpoint, f"{bucket}-2", tmp_path / "moved")
    await load(moved, file, _progress)
    assert (await export(moved, again, _progress)).files == 2
    # Into the same bucket, where the file is already: it is the new devkit's as well, then and after one more move.
    await load(_settings(s3_endpoint, bucket, tmp_path / "same"), file, _progress)
    same = await open_store("same")
    await put(same, "same/b.csv", b"bytes", UPLOADS)
    listed, _ = await same.list(UPLOADS)
    assert [info.name for info in await same.own(UPLOADS, listed)] == ["ours/a.csv", "same/b.csv"]
    assert [info.name for info in await ours.own(UPLOADS, listed)] == ["ours/a.csv"]
    assert (await export(_settings(s3_endpoint, bucket, tmp_path / "same"), last, _progress)).files == 4
    assert [info.metadata for info in await describe(same, UPLOADS, listed)] == [INFO["metadata"]] * 3


@pytest.mark.parametrize("owners", ["x", [1], ["../x"], ["a" * 33]])
async def test_an_archive_with_other_things_for_ids_is_refused(
    owners: Any, s3_endpoint: str, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.tar.gz"
    with file.open("wb") as opened:
        writer = Writer(opened)
        writer.add_json(HEADER, {"format": FORMAT, "createdAt": "now", "owners": owners})
        writer.finish()
    with pytest.raises(TransferRefused, match="damaged"):
        await load(_settings(s3_endpoint, bucket, tmp_path / "new"), file, _progress)
    assert not (tmp_path / "new").exists()
