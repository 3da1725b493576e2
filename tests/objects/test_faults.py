"""What breaks around the stores: nothing half-stored is ever seen, errors have codes, and it recovers by itself."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import resource
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError

from devkit_api.errors import ObjectReplaced, ObjectStoreUnavailable
from devkit_api.objects import files, s3, s3_bucket, s3_calls, s3_parts
from devkit_api.objects.file_receive import _Receiver
from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.s3 import S3ObjectStore
from devkit_api.objects.s3_calls import ATTEMPTS
from devkit_api.state import StateError
from tests.objects.conftest import upload
from tests.objects.test_stores import put, read
from tests.support.modules import manifest
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.s3 import FaultyProxy, keys, load_s3, make_versioned, s3_settings, unfinished
from tests.support.waiting import PATIENCE, until, until_async

RUN = "devkit-run-conformance"
DATA = bytes(range(256)) * 8000  # 2 MB
LONG = DATA * 4  # more than is held back before it is written


@pytest.fixture
async def proxy(s3_endpoint: str) -> AsyncIterator[FaultyProxy]:
    made = FaultyProxy(s3_endpoint)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def behind(
    request: pytest.FixtureRequest, proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A store whose S3 is behind the proxy; a parameter is its patience with one attempt, in seconds."""
    monkeypatch.setattr(s3_bucket, "ATTEMPT_SECONDS", getattr(request, "param", PATIENCE))
    monkeypatch.setattr(s3_calls, "TOTAL_SECONDS", PATIENCE)  # attempts are counted here, however long each takes
    store = S3ObjectStore(load_s3(proxy.endpoint, bucket, tmp_path / "state"), tmp_path / "state")
    await store.open()
    yield store
    await store.close()


async def test_down_at_the_start_and_back_without_a_restart(behind: S3ObjectStore, proxy: FaultyProxy) -> None:
    await proxy.stop()
    with pytest.raises(ObjectStoreUnavailable, match="does not answer"):
        await put(behind, "a", DATA)
    with pytest.raises(Exception, match="connect"):
        await behind.check()
    await proxy.start()
    await behind.check()
    await put(behind, "a", DATA)
    assert await read(behind, "a") == DATA


@pytest.mark.parametrize("fault", ["error", "refuse"])
async def test_what_passes_is_tried_again_and_what_stays_is_given_up(
    behind: S3ObjectStore, proxy: FaultyProxy, fault: str
) -> None:
    await put(behind, "a", DATA)
    proxy.break_with(fault, count=2)
    assert await behind.stat(RUN, "a") is not None
    assert proxy.seen >= 3
    proxy.break_with(fault)
    with pytest.raises(ObjectStoreUnavailable):
        await behind.stat(RUN, "a")
    assert ATTEMPTS <= proxy.seen <= 2 * ATTEMPTS  # aiohttp itself tries a lost connection once more
    proxy.heal()
    assert await read(behind, "a") == DATA


@pytest.mark.parametrize("behind", [1.0], indirect=True)
async def test_no_answer_is_not_waited_for_forever(behind: S3ObjectStore, proxy: FaultyProxy) -> None:
    proxy.break_with("silence")
    with pytest.raises(ObjectStoreUnavailable, match="does not answer"):
        await behind.list(RUN)
    await until_async(lambda: proxy.seen >= ATTEMPTS)
    assert proxy.seen == ATTEMPTS


@pytest.mark.parametrize("fault", ["refuse", "error", "reset", "silence"])
async def test_a_put_that_breaks_off_leaves_the_earlier_file(
    behind: S3ObjectStore, proxy: FaultyProxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(behind, "a", b"before")
    proxy.break_with(fault, cut_after=600_000)
    with monkeypatch.context() as hurried:
        hurried.setattr(s3_bucket, "ANSWER_SECONDS", 1)
        with pytest.raises(ObjectStoreUnavailable):
            await put(behind, "a", DATA)
        with pytest.raises(ObjectStoreUnavailable):
            await put(behind, "new", DATA)
    proxy.heal()
    assert await read(behind, "a") == b"before"
    assert await behind.stat(RUN, "new") is None
    await put(behind, "a", DATA)
    assert await read(behind, "a") == DATA


async def test_a_file_sent_in_parts_survives_a_broken_part_and_leaves_nothing_when_it_is_given_up(
    behind: S3ObjectStore, proxy: FaultyProxy, s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (s3, s3_parts):
        monkeypatch.setattr(module, "PART_BYTES", 5 * 1024**2)
    await put(behind, "a", b"before")
    proxy.break_with("reset", count=2, cut_after=600_000)
    await put(behind, "a", LONG)
    assert await read(behind, "a") == LONG
    proxy.break_with("reset", cut_after=600_000)
    with pytest.raises(ObjectStoreUnavailable):
        await put(behind, "a", LONG[::-1])
    proxy.heal()
    assert await read(behind, "a") == LONG
    assert unfinished(s3_endpoint, bucket) == []


@pytest.mark.parametrize("behind", [3.0], indirect=True)
async def test_a_get_that_stands_still_goes_on_where_it_stood(behind: S3ObjectStore, proxy: FaultyProxy) -> None:
    await put(behind, "a", DATA)
    stream = behind.read(RUN, "a")
    proxy.break_with("stall", count=2, cut_after=600_000)
    assert b"".join([chunk async for chunk in stream]) == DATA


async def test_a_full_disk_sends_nothing_to_the_bucket(behind: S3ObjectStore) -> None:
    await put(behind, "a", b"before")
    with _disk_full(512 * 1024), pytest.raises(StateError):
        await put(behind, "a", DATA)
    assert await read(behind, "a") == b"before"


async def test_a_get_that_breaks_off_goes_on_where_it_broke(behind: S3ObjectStore, proxy: FaultyProxy) -> None:
    await put(behind, "a", DATA)
    stream = behind.read(RUN, "a")
    proxy.break_with("pass")
    assert await behind.stat(RUN, "a") is not None  # the next connection is the one for the bytes

    proxy.break_with("cut", count=2, cut_after=600_000)
    got = b"".join([chunk async for chunk in stream])
    assert got == DATA
    assert proxy.seen >= 3


async def _put_between_head_and_get(store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have `change` happen to the object after the store looked at it, and before it asks for the bytes."""
    call = store._bucket.call

    async def late(operation: str, **params: Any) -> Any:
        if operation == "get_object":
            monkeypatch.setattr(store._bucket, "call", call)
            await change()
        return await call(operation, **params)

    monkeypatch.setattr(store._bucket, "call", late)


@pytest.mark.parametrize("versions", [False, True])
async def test_a_file_replaced_while_it_is_read_is_said_to_be_replaced(
    versions: bool, s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if versions:
        make_versioned(s3_endpoint, bucket)
    store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / "state"), tmp_path / "state")
    await store.open()
    try:
        await put(store, "a", b"before")

        async def change() -> None:
            await store.delete(RUN, "a")  # with versions, those before go as well
            await put(store, "a", b"after")

        await _put_between_head_and_get(store, monkeypatch, change)
        with pytest.raises(ObjectReplaced):
            await read(store, "a")
        assert await read(store, "a") == b"after"
    finally:
        await store.close()


def _refusal(code: str) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, "GetBucketVersioning")


@pytest.mark.parametrize("refusal", [_refusal("SlowDown"), EndpointConnectionError(endpoint_url="http://s3")])
async def test_a_question_for_versions_that_fails_once_is_asked_again(
    refusal: Exception, s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_versioned(s3_endpoint, bucket)
    store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / "state"), tmp_path / "state")
    await store.open()
    _answer_once(store, refusal, monkeypatch)
    await put(store, "a", b"one")
    first = await store.stat(RUN, "a")
    assert first is not None
    await put(store, "a", b"two")
    assert await read(store, "a", version=first.version) == b"one"
    await store.close()


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed", "AccessDenied"])
async def test_a_server_that_tells_nothing_of_versions_is_one_without(
    code: str, s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_versioned(s3_endpoint, bucket)
    store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / "state"), tmp_path / "state")
    await store.open()
    _answer_once(store, _refusal(code), monkeypatch)
    stored = await put(store, "a", b"one")
    assert [one.version for one in await store.versions(RUN, stored)] == [stored.version]
    assert not store._bucket.versioned
    await store.close()


def _answer_once(store: S3ObjectStore, refusal: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the bucket refuse to tell of its versions, the first time it is asked."""
    client = store._bucket.client
    tell = client.get_bucket_versioning

    async def refuse(**params: Any) -> Any:
        monkeypatch.setattr(client, "get_bucket_versioning", tell)
        raise refusal

    monkeypatch.setattr(client, "get_bucket_versioning", refuse)


async def test_the_devkit_is_not_ready_while_its_s3_is_away_and_ready_again_after(
    proxy: FaultyProxy, bucket: str, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devkit_api.system.health._SHARED_FOR", 0.0)
    monkeypatch.setattr("devkit_api.system.health._DEADLINE", PATIENCE)  # what is slow is not missing
    await proxy.stop()
    client = await make_client(**s3_settings(proxy.endpoint, bucket))
    answer = await client.get("/v1/system/ready")
    assert (answer.status, list((await answer.json())["missing"])) == (503, ["objects"])
    upload = await client.post("/v1/devkit/inputs/a.csv", data=b"a")
    assert (upload.status, (await upload.json())["error"]["code"]) == (503, "OBJECT_STORE_UNAVAILABLE")
    assert int(upload.headers["Retry-After"]) > 0
    await proxy.start()
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/v1/system/ready")).status != 200:
            pass
    assert (await client.post("/v1/devkit/inputs/a.csv", data=b"a")).status == 201


@contextmanager
def _disk_full(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writing more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_stores_nothing_and_is_no_end(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path / "objects")
    await store.open()
    await put(store, "a", b"before")
    with _disk_full(512 * 1024):
        for name in ("a", "new"):
            with pytest.raises(StateError):
                await put(store, name, DATA)
    assert not list((tmp_path / "objects").glob(".*.part"))
    assert await read(store, "a") == b"before"
    assert await store.stat(RUN, "new") is None
    await put(store, "a", DATA)
    assert await read(store, "a") == DATA


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_put_that_is_cancelled_closes_its_file_when_nobody_writes_to_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """The number of a closed file is soon that of another: a thread that still writes would write into that one."""
    told: list[str] = []
    arrived, go_on = threading.Event(), threading.Event()
    write, close = _Receiver._write, _Receiver.close

    def slowly(self: Any, batch: list[bytes]) -> None:
        arrived.set()
        go_on.wait(PATIENCE)
        write(self, batch)
        told.append("written")

    def closed(self: Any) -> None:
        told.append("closed")
        close(self)

    monkeypatch.setattr(_Receiver, "_write", slowly)
    monkeypatch.setattr(_Receiver, "close", closed)
    store = FileObjectStore(tmp_path / "objects")
    await store.open()
    putting = asyncio.create_task(put(store, "a", DATA * batches))
    try:
        await asyncio.to_thread(arrived.wait, PATIENCE)
        for _ in range(100):  # it goes as far as it may: to where it waits for the thread
            await asyncio.sleep(0)
        putting.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert told == []
    finally:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert told == ["written", "closed"]
    assert not list((tmp_path / "objects").glob(".*.part"))


async def test_bytes_that_cannot_be_described_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileObjectStore(tmp_path / "objects")
    await store.open()
    await put(store, "a", b"before")

    def full() -> set[str]:
        return {path.name for path in (tmp_path / "objects").rglob("*") if path.is_file()}

    known = full()
    with monkeypatch.context() as small:

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        small.setattr(files, "write_atomic", refuse)
        for work in (put(store, "a", DATA), put(store, "new", DATA), store.copy(RUN, "a", RUN, "a")):
            with pytest.raises(StateError):
                await work
    assert full() == known
    assert await read(store, "a") == b"before"


async def _settled(store: FileObjectStore, name: str) -> bytes | None:
    """The file, or None; what is told of it and what is there have to agree, and go on to after a restart."""
    again = FileObjectStore(store._root)
    info = await store.stat(RUN, name)
    assert await again.stat(RUN, name) == info
    return None if info is None else await read(store, name)


async def _done_or_waiting(work: asyncio.Task[Any], lock: asyncio.Lock) -> None:
    """As far as it gets while somebody else is held up."""
    await until_async(lambda: work.done() or lock._waiters)


@pytest.mark.parametrize("remove", ["sweep", "delete_namespace"])
async def test_a_file_stored_while_its_namespace_goes_is_there_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: str
) -> None:
    store = FileObjectStore(tmp_path / "objects")
    await store.open()
    await put(store, "before", b"before")
    real, arrived, go_on = files._store, asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> None:
        await real(*arguments)
        arrived.set()
        await go_on.wait()

    monkeypatch.setattr(files, "_store", held)
    putting = asyncio.create_task(put(store, "a", b"bytes"))
    await arrived.wait()
    work = store.sweep(lambda _: False) if remove == "sweep" else store.delete_namespace(RUN)
    removing = asyncio.create_task(work)
    await _done_or_waiting(removing, store._locks.of(RUN))  # which the put holds
    go_on.set()
    await asyncio.wait([putting, removing])
    assert await _settled(store, "a") in {None, b"bytes"}
    assert await _settled(store, "before") is None
    assert await store.list(RUN) == ([], None) or (await store.list(RUN))[0][0].name == "a"


async def test_a_namespace_that_goes_while_it_is_read_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = FileObjectStore(tmp_path / "objects")
    await earlier.open()
    await put(earlier, "a", b"bytes")
    store = FileObjectStore(tmp_path / "objects")
    real, arrived, go_on = files.load_index, threading.Event(), threading.Event()

    def held(folder: Path) -> Any:
        found = real(folder)
        arrived.set()
        go_on.wait(PATIENCE)
        return found

    monkeypatch.setattr(files, "load_index", held)
    looking = asyncio.create_task(store.stat(RUN, "a"))
    await asyncio.to_thread(arrived.wait, PATIENCE)
    removing = asyncio.create_task(store.delete_namespace(RUN))
    await _done_or_waiting(removing, store._loading.of(RUN))  # which the look holds
    go_on.set()
    await asyncio.wait([looking, removing])
    assert await _settled(store, "a") is None


@pytest.mark.process
def test_a_put_cut_by_kill_nine_is_never_seen(make_devkit: Callable[..., DevkitProcess]) -> None:
    devkit = make_devkit(client_timeout=PATIENCE)
    with devkit:
        devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
        run = devkit.run("elsewhere")
        path, token = f"/v1/module-runs/{run['runId']}", run["token"]
        kept = _grant(devkit, path, token, "kept", b"before")
        assert requests.put(kept["url"], data=b"before", headers=kept["headers"], timeout=PATIENCE).status_code == 200
        held = [_begin(_grant(devkit, path, token, name, LONG)) for name in ("kept", "new")]
        parts = devkit.state / "objects"
        until(lambda: sorted(part.stat().st_size > 0 for part in parts.glob(".*.part")) == [True, True])
        devkit.kill()
        for connection in held:
            connection.close()
        assert len(list(parts.glob(".*.part"))) == 2
    with devkit.start():
        files = devkit.request("GET", f"{path}/files").json()["files"]
        assert [(file["name"], file["sizeBytes"]) for file in files] == [("kept", 6)]
        assert requests.get(files[0]["url"], timeout=PATIENCE).content == b"before"
        assert not list(parts.glob(".*.part"))
        again = _grant(devkit, path, token, "new", DATA)
        assert requests.put(again["url"], data=DATA, headers=again["headers"], timeout=PATIENCE).status_code == 200


@pytest.mark.process
async def test_a_put_to_a_bucket_cut_by_kill_nine_is_never_seen(
    make_devkit: Callable[..., DevkitProcess], proxy: FaultyProxy, s3_endpoint: str, bucket: str
) -> None:
    """One that is still coming in, and one that is whole here and on its way to the bucket."""
    devkit = make_devkit(client_timeout=PATIENCE, **s3_settings(proxy.endpoint, bucket))

    def spooled() -> list[int]:
        return sorted(part.stat().st_size for part in (devkit.state / "spool").glob("*.part"))

    def begin(name: str, data: bytes) -> socket.socket:
        url = urlsplit(devkit.endpoint)
        connection = socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE)
        head = f"POST /v1/devkit/inputs/{name} HTTP/1.1\r\nHost: {url.netloc}\r\nX-API-Key: {TEST_KEY}\r\n"
        connection.sendall(f"{head}Content-Length: {len(LONG)}\r\n\r\n".encode() + data)
        return connection

    def cut() -> Any:
        devkit.start()
        kept = upload(devkit, "kept.csv", b"before")
        proxy.break_with("silence")
        held = [begin("coming.csv", LONG[:-100]), begin("sending.csv", LONG)]
        # The second is whole, and the bucket has been asked to take it.
        until(lambda: proxy.seen and len(sizes := spooled()) == 2 and 0 < sizes[0] < sizes[1] == len(LONG))
        devkit.kill()
        for connection in held:
            connection.close()
        assert len(spooled()) == 2
        return kept

    def look_again() -> tuple[Any, Any]:
        devkit.start()
        return devkit.request("GET", "/v1/devkit/inputs").json()["items"], upload(devkit, "sending.csv", LONG)

    kept = await asyncio.to_thread(cut)
    proxy.heal()
    listed, again = await asyncio.to_thread(look_again)
    assert listed == [kept]
    assert spooled() == []
    assert again["checksum"] == hashlib.sha256(LONG).hexdigest()
    in_bucket = await asyncio.to_thread(keys, s3_endpoint, bucket)
    assert {f"s3://{bucket}/{key}" for key in in_bucket} == {kept["uri"], again["uri"]}
    await asyncio.to_thread(devkit.stop)


def _grant(devkit: DevkitProcess, path: str, token: str, key: str, data: bytes) -> Any:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    body = {"action": "put", "key": key, "contentLength": len(data), "contentSha256": checksum}
    return devkit.request("POST", f"{path}/storage", key=token, json=body).json()


def _begin(grant: Any) -> socket.socket:
    """A put that sends all but its last bytes, and stays open."""
    url = urlsplit(grant["url"])
    connection = socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE)
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {len(LONG)}\r\n\r\n"
    connection.sendall(head.encode() + LONG[:-100])
    return connection
