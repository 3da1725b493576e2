"""Uploads in parts: by the official CLI over https, and step by step over http on both stores."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from devkit_api.errors import ObjectStoreUnavailable, PartsNotFound, Unavailable, UploadConflict
from devkit_api.lifetimes import STORE
from devkit_api.objects.file_parts import FileParts
from devkit_api.objects.namespaces import UPLOADS
from devkit_api.objects.protocol import Expected
from devkit_api.objects.routes import OBJECTS
from devkit_api.objects.uploads import completion, service
from devkit_api.objects.uploads.routes import PART_UPLOADS
from devkit_api.security.authentication import owner_principal
from devkit_api.state import StateError
from tests.objects.conftest import MODULES, finish
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until_async

BEGIN = "/v1/data-sources/devkit/uploads"
PART = 5 * 1024**2


@pytest.mark.process
def test_the_cli_uploads_a_file_that_a_run_then_reads(
    tls: dict[str, str], make_devkit: Callable[..., DevkitProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path / "mods" / "named", MODULES["named"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls["ca-bundle.pem"])
    shim = tmp_path / "shim" / "certifi"  # what docs/objects.md says to do to certifi's list
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text(f"def where():\n    return {tls['ca-bundle.pem']!r}\n")
    file = tmp_path / "cohort.csv"
    data = os.urandom(service.PART_BYTES + 1000)
    file.write_bytes(data)
    devkit = make_devkit(modules=tmp_path / "mods", tls_cert=tls["cert.pem"], tls_key=tls["key.pem"])

    def uploads(*arguments: str) -> Any:
        command = [str(Path(sys.executable).with_name("hla-compass")), "data", "uploads", *arguments]
        environment = {**devkit.sdk_environment(), "PYTHONPATH": str(tmp_path / "shim")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    with devkit:
        done = uploads("upload", "lab", str(file), "--prefix", "analysis/", "--idempotency-key", "first")
        assert (done["verifiedComplete"], done["localSHA256"]) == (True, hashlib.sha256(data).hexdigest())
        source = {"name": "cohort", "uri": done["s3Uri"], "checksum": hashlib.sha256(data).hexdigest()}
        run = finish(devkit, "named", {}, dataContext={"sources": [source]})
        result = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
        assert result["data"]["results"] == {"cohort": len(data)}


class Uploader:
    """Uploads step by step, as the SDK makes them, with a client of the test."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def ask(self, method: str, path: str, status: int = 200, **body: Any) -> Any:
        answer = await self.client.request(method, path, **({"json": body} if method == "POST" else {}))
        told = await answer.json()
        assert answer.status == status, told
        return told

    async def begin(self, size: int, key: str = "k", status: int = 201, **fields: Any) -> Any:
        body = {"filename": "a.bin", "declaredSizeBytes": size, "idempotencyKey": key, **fields}
        return await self.ask("POST", BEGIN, status, **body)

    async def send(self, upload: Any, number: int, data: bytes, status: int = 200, sent: bytes | None = None) -> Any:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        at = f"{BEGIN}/{upload['uploadId']}"
        named = [{"partNumber": number, "checksumSHA256": checksum}]
        part = (await self.ask("POST", f"{at}/parts", revision=upload["revision"], parts=named))["parts"][0]
        path = part["url"].split("/v1/", 1)[1]
        answer = await self.client.anonymous.put(
            f"http://127.0.0.1:{self.client.port}/v1/{path}", data=io.BytesIO(data if sent is None else sent),
            headers=part["requiredHeaders"],
        )  # fmt: skip
        assert answer.status == status, await answer.text()
        if status != 200:
            return await answer.json()
        assert answer.headers["x-amz-checksum-sha256"] == checksum
        return {**named[0], "etag": answer.headers["ETag"].strip('"')}

    async def complete(self, upload: Any, parts: Any, status: int = 200, revision: int = 0) -> Any:
        return await self.ask("POST", f"{BEGIN}/{upload['uploadId']}/complete", status, revision=revision, parts=parts)


@pytest.fixture
async def uploader(make_client: Any, store_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Uploader:
    monkeypatch.setattr(service, "PART_BYTES", PART)
    return Uploader(await make_client(**store_settings))


async def test_an_upload_goes_on_where_it_stopped_and_is_complete_once(uploader: Uploader) -> None:
    pieces = [os.urandom(PART), b"the end"]
    size = sum(map(len, pieces))
    begun = await uploader.begin(size)
    second = await uploader.send(begun, 2, pieces[1])
    assert (await uploader.complete(begun, [second], 422))["error"]["code"] == "UPLOAD_INVALID"
    # As after a restart: what there is comes from the stores.
    uploads = uploader.client.server.app[PART_UPLOADS]
    await uploads.close()
    await uploads.open()
    found = await uploader.begin(size)
    assert (found["uploadId"], [part["partNumber"] for part in found["parts"]]) == (begun["uploadId"], [2])
    assert found["parts"][0] == {**second, "sizeBytes": 7}
    first = await uploader.send(begun, 1, pieces[0])
    swapped = [{**first, "etag": second["etag"]}, second]
    for wrong in (swapped, [second, first], [first, first]):
        assert (await uploader.complete(begun, wrong, 422))["error"]["code"] == "UPLOAD_INVALID"
    done = await uploader.complete(begun, [first, second])
    assert (done["status"], done["verifiedComplete"]) == ("complete", True)
    assert await uploader.complete(begun, [first, second]) == done
    receipt = await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}/download")
    own = f"http://127.0.0.1:{uploader.client.port}/v1/objects"
    async with uploader.client.anonymous.get(receipt["url"].replace("http://127.0.0.1:4100/v1/objects", own)) as answer:
        assert await answer.read() == b"".join(pieces)
    listed = (await uploader.ask("GET", "/v1/devkit/inputs"))["items"]
    assert [(one["uploadId"], one["checksum"]) for one in listed] == [
        (begun["uploadId"], hashlib.sha256(b"".join(pieces)).hexdigest())
    ]
    kept = await uploader.ask("POST", f"{BEGIN}/{begun['uploadId']}/cancel", revision=9)
    assert kept["status"] == "complete"
    late = await uploader.client.post(
        f"{BEGIN}/{begun['uploadId']}/parts",
        json={"revision": 0, "parts": [{"partNumber": 1, "checksumSHA256": first["checksumSHA256"]}]},
    )
    assert (late.status, (await late.json())["error"]["code"]) == (409, "UPLOAD_CONFLICT")


async def test_what_does_not_fit_is_refused_and_what_is_given_up_is_freed(uploader: Uploader) -> None:
    begun = await uploader.begin(7)
    assert (await uploader.send(begun, 1, b"7 bytes", 422, sent=b"others!"))["error"]["code"] == "CHECKSUM_MISMATCH"
    assert (await uploader.begin(8, status=409))["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    for wrong in ({"filename": "a/b"}, {"prefix": "no-slash"}, {"prefix": "../x/"}, {"unknown": 1}):
        await uploader.begin(1, key="wrong", status=422, **wrong)
    for size in (-1, service.MOST_BYTES + 1):
        await uploader.begin(size, key="wrong", status=422)
    at = f"{BEGIN}/{begun['uploadId']}"
    await uploader.ask(
        "POST", f"{at}/parts", 422, revision=0, parts=[{"partNumber": 2, "checksumSHA256": "A" * 43 + "="}]
    )
    await uploader.ask("POST", f"{at}/cancel", 409, revision=5)
    assert (await uploader.ask("GET", at))["parts"] == []
    await uploader.ask("GET", at.replace("devkit", "another-source"), 404)
    await uploader.ask("GET", f"{at}/download", 409)
    upload = uploader.client.server.app[PART_UPLOADS]._uploads[begun["uploadId"]]
    assert (await uploader.ask("POST", f"{at}/cancel", revision=0))["status"] == "cancelled"
    with pytest.raises(PartsNotFound):
        await uploader.client.server.app[OBJECTS].parts(upload.begun)
    assert (await uploader.ask("GET", "/v1/devkit/inputs"))["items"] == []


async def test_an_empty_file_a_deleted_one_and_an_expired_one(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await uploader.begin(0)
    await uploader.complete(begun, [await uploader.send(begun, 1, b"")])
    assert (await uploader.client.delete(f"/v1/devkit/inputs/{begun['uploadId']}")).status == 200
    await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}", 404)
    assert (await uploader.begin(0))["status"] == "uploading"
    monkeypatch.setattr(service, "LIFETIME", service.LIFETIME * -1)
    late = await uploader.begin(3, key="late")
    assert (await uploader.ask("GET", f"{BEGIN}/{late['uploadId']}"))["status"] == "expired"


async def _restart(uploader: Uploader) -> Any:
    """As after a restart: what there is comes from the stores."""
    uploads = uploader.client.server.app[PART_UPLOADS]
    await uploads.close()
    await uploads.open()
    return uploads


async def test_uploads_nobody_goes_on_with_make_room_and_leave_no_parts(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MOST_OPEN", 2)
    uploads = uploader.client.server.app[PART_UPLOADS]
    with monkeypatch.context() as past:
        past.setattr(service, "LIFETIME", service.LIFETIME * -1)
        left = [await uploader.begin(7, key=f"left-{number}") for number in range(2)]
    begun = [uploads._uploads[one["uploadId"]].begun for one in left]
    await uploader.begin(7, key="now")
    await uploader.begin(7, key="now")
    await uploader.begin(7, key="and now")
    refused = await uploader.begin(7, key="too many", status=422)
    assert "2 of your uploads are open" in refused["error"]["message"]
    # Another user's are counted apart.
    mine, theirs = (uploads._uploads[key] for key in list(uploads._uploads)[-2:])
    await uploads._save(attrs.evolve(theirs, user_id="somebody-else"))
    await uploader.begin(7, key="not too many")
    await uploads._save(attrs.evolve(mine, user_id="somebody-else"))

    objects = uploader.client.server.app[OBJECTS]
    await _restart(uploader)
    await until_async(lambda: {uploads._uploads[one["uploadId"]].status for one in left} == {"expired"})
    for one in begun:
        with pytest.raises(PartsNotFound):
            await objects.parts(one)
    assert await objects.parts(mine.begun) == []


async def test_parts_that_cannot_be_freed_now_are_freed_later(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as past:
        past.setattr(service, "LIFETIME", service.LIFETIME * -1)
        left = (await uploader.begin(7))["uploadId"]
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = uploads._uploads[left].begun
    with monkeypatch.context() as away:

        async def fail(_begun: Any) -> None:
            raise ObjectStoreUnavailable(reason="it does not answer")

        away.setattr(objects, "abort_parts", fail)
        with pytest.raises(ObjectStoreUnavailable):
            await uploads.sweep()
        assert uploads._uploads[left].is_over
    await uploads.sweep()
    assert uploads._uploads[left].status == "expired"
    with pytest.raises(PartsNotFound):
        await objects.parts(begun)


async def test_receipts_of_files_that_were_removed_go(uploader: Uploader) -> None:
    kept, removed = [await uploader.begin(1, key=key) for key in ("kept", "removed")]
    for begun in (kept, removed):
        await uploader.complete(begun, [await uploader.send(begun, 1, b"x")])
    assert (await uploader.client.delete(f"/v1/devkit/inputs/{removed['uploadId']}")).status == 200
    uploads = await _restart(uploader)
    await until_async(lambda: set(uploads._uploads) == {kept["uploadId"]})
    documents = uploader.client.app_state / "uploads"
    assert [path.stem for path in documents.rglob("*.json")] == [kept["uploadId"]]


async def test_an_upload_that_broke_off_while_it_was_completed_ends_in_time(uploader: Uploader) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    old, young = [uploads._uploads[(await uploader.begin(7, key=key))["uploadId"]] for key in ("old", "young")]
    for upload, expires_at in ((old, "2025-01-01T00:00:00Z"), (young, young.expires_at)):
        await uploads._save(attrs.evolve(upload, expires_at=expires_at, status="completing"))
    await uploads.sweep()
    assert set(uploads._uploads) == {young.upload_id}
    with pytest.raises(PartsNotFound):
        await objects.parts(old.begun)
    assert await objects.parts(young.begun) == []


async def test_a_part_that_comes_while_the_file_is_made_changes_nothing(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    part = await uploader.send(begun, 1, b"7 bytes")
    held, released = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"other "
        held.set()
        await released.wait()
        yield b"7"

    expected = Expected(7, hashlib.sha256(b"other 7").hexdigest())
    late = asyncio.create_task(uploads.put_part(f"{begun['uploadId']}/1", slowly(), expected))
    await held.wait()
    complete_parts = objects.complete_parts

    async def meanwhile(*arguments: Any) -> Any:
        released.set()
        await asyncio.wait([late])
        return await complete_parts(*arguments)

    monkeypatch.setattr(objects, "complete_parts", meanwhile)
    assert (await uploader.complete(begun, [part]))["status"] == "complete"
    with pytest.raises(UploadConflict):
        await late


async def test_parts_the_store_does_not_have_are_sent_again(uploader: Uploader) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    part = await uploader.send(begun, 1, b"7 bytes")
    upload = uploads._uploads[begun["uploadId"]]

    async def another() -> AsyncIterator[bytes]:
        yield b"other 7"

    # As when the machine stopped after the part was stored, and before that was noted.
    sha256 = hashlib.sha256(b"other 7").hexdigest()
    stored = await objects.put_part(upload.begun, 1, another(), Expected(7, sha256))
    assert (await uploader.complete(begun, [part], 422))["error"]["code"] == "PARTS_INVALID"
    found = await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}")
    assert (found["status"], [one["etag"] for one in found["parts"]]) in [
        ("uploading", [stored.etag]), ("uploading", [])
    ]  # fmt: skip
    part = await uploader.send(found, 1, b"7 bytes")
    done = await uploader.complete(begun, [part], revision=found["revision"])
    assert done["status"] == "complete"


async def test_an_upload_whose_parts_are_gone_ends(uploader: Uploader) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    part = await uploader.send(begun, 1, b"7 bytes")
    await objects.abort_parts(uploads._uploads[begun["uploadId"]].begun)
    assert (await uploader.complete(begun, [part], 404))["error"]["code"] == "PARTS_NOT_FOUND"
    assert (await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}"))["status"] == "expired"


@pytest.mark.parametrize("made", [False, True], ids=["before the file", "after the file"])
async def test_what_broke_off_while_it_was_completed_can_be_given_up_or_done(
    made: bool, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    complete_parts = objects.complete_parts

    async def fail(*arguments: Any) -> Any:
        if made:
            await complete_parts(*arguments)
        raise ObjectStoreUnavailable(reason="it does not answer")

    dropped, done, late = [await uploader.begin(7, key=key) for key in ("dropped", "done", "late")]
    part = {one["uploadId"]: await uploader.send(one, 1, b"7 bytes") for one in (dropped, done, late)}
    with monkeypatch.context() as away:
        away.setattr(objects, "complete_parts", fail)
        for one in (dropped, done, late):
            await uploader.complete(one, [part[one["uploadId"]]], 503)
    at = f"{BEGIN}/{dropped['uploadId']}"
    revision = (await uploader.ask("GET", at))["revision"]
    assert (await uploader.ask("POST", f"{at}/cancel", revision=revision))["status"] == "cancelled"
    upload = uploads._uploads[dropped["uploadId"]]
    assert await objects.stat(UPLOADS, upload.name) is None
    with pytest.raises(PartsNotFound):
        await objects.parts(upload.begun)
    again = await uploader.complete(done, [part[done["uploadId"]]], revision=revision)
    assert again["status"] == "complete"
    # Nobody came back to this one within its time.
    upload = attrs.evolve(
        uploads._uploads[late["uploadId"]], expires_at=(datetime.now(UTC) - timedelta(hours=1)).isoformat()
    )
    await uploads._save(upload)
    await uploads.sweep()
    assert uploads._uploads[late["uploadId"]].status == ("complete" if made else "expired")


async def test_a_file_that_moved_to_another_store_is_still_that_of_its_receipt(uploader: Uploader) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    await uploader.complete(begun, [await uploader.send(begun, 1, b"7 bytes")])
    upload = uploads._uploads[begun["uploadId"]]

    async def put(data: bytes) -> str:
        """As an import does: the file of that name, in a version of this store's own."""

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await objects.delete(UPLOADS, upload.name)
        about = {"content_type": upload.content_type, "metadata": {}}
        version: str = (await objects.put(UPLOADS, upload.name, chunks(), None, about)).version
        return version

    at = f"{BEGIN}/{begun['uploadId']}"
    version = await put(b"7 bytes")
    await uploads._save(attrs.evolve(upload, version="18c0ffee-7"))
    receipt = await uploader.ask("GET", f"{at}/download")
    assert (receipt["versionId"], receipt["sizeBytes"]) == (version, 7)
    assert (await uploader.ask("GET", at))["versionId"] == version
    for other in (b"7 other", b"8 bytes!"):
        await put(other)
        await uploads._save(attrs.evolve(upload, version="18c0ffee-7"))
        assert (await uploader.ask("GET", f"{at}/download", 404))["error"]["code"] == "OBJECT_NOT_FOUND"


async def test_what_comes_during_a_reset_is_told_so_and_leaves_nothing(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    part = await uploader.send(begun, 1, b"7 bytes")
    abort_parts, told = objects.abort_parts, []

    async def slowly() -> AsyncIterator[bytes]:
        yield b"7 bytes"

    async def meanwhile(one: Any) -> None:
        told.append((await uploader.begin(7, key="late", status=503))["error"]["code"])
        told.append((await uploader.complete(begun, [part], 503))["error"]["code"])
        with pytest.raises(Unavailable):
            expected = Expected(7, hashlib.sha256(b"7 bytes").hexdigest())
            await uploads.put_part(f"{begun['uploadId']}/1", slowly(), expected)
        await abort_parts(one)

    monkeypatch.setattr(objects, "abort_parts", meanwhile)
    assert (await uploader.client.post("/v1/devkit/reset")).status == 200
    assert (told, uploads._uploads) == (["UNAVAILABLE"] * 2, {})
    assert list((uploader.client.app_state / "objects").glob(".parts/*")) == []
    assert (await uploader.begin(7, key="late"))["status"] == "uploading"


async def test_uploads_are_swept_after_a_reset_that_broke_off(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    with monkeypatch.context() as away:

        async def fail(_begun: Any) -> None:
            raise ObjectStoreUnavailable(reason="it does not answer")

        away.setattr(objects, "abort_parts", fail)
        assert (await uploader.client.post("/v1/devkit/reset")).status == 503
    assert not uploads._sweeping.done()
    assert (await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}"))["status"] == "uploading"


async def test_parts_that_go_while_they_are_listed_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = FileParts(tmp_path)
    begun = await parts.begin("uploads", "a", {})
    folder = parts._folder

    async def then_gone(one: Any) -> Path:
        found = await folder(one)
        await parts.abort(one)
        return found

    monkeypatch.setattr(parts, "_folder", then_gone)
    with pytest.raises(PartsNotFound):
        await parts.list(begun)


async def test_what_was_begun_for_nobody_is_swept(tmp_path: Path) -> None:
    parts = FileParts(tmp_path)
    kept, dropped = [await parts.begin(namespace, "a", {}) for namespace in ("kept", "dropped")]
    (tmp_path / ("0" * 32)).mkdir()
    await parts.sweep(lambda namespace: namespace == "kept")
    assert [path.name for path in tmp_path.iterdir()] == [kept.upload] != [dropped.upload]


async def test_uploads_begun_at_once_do_not_pass_the_limit(uploader: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_MOST_OPEN", 2)
    objects = uploader.client.server.app[OBJECTS]
    begin_parts = objects.begin_parts

    async def slowly(*arguments: Any) -> Any:
        begun = await begin_parts(*arguments)
        for _ in range(50):  # every other one has its turn
            await asyncio.sleep(0)
        return begun

    monkeypatch.setattr(objects, "begin_parts", slowly)
    body = {"filename": "a.bin", "declaredSizeBytes": 7}
    answers = await asyncio.gather(
        *(uploader.client.post(BEGIN, json={**body, "idempotencyKey": f"{number}"}) for number in range(6))
    )
    assert sorted(answer.status for answer in answers) == [201, 201, 422, 422, 422, 422]


async def test_a_stop_does_not_wait_for_a_store_that_takes_for_ever(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, objects = uploader.client.server.app[PART_UPLOADS], uploader.client.server.app[OBJECTS]
    begun = await uploader.begin(7)
    part = await uploader.send(begun, 1, b"7 bytes")
    viewer = owner_principal(*uploads._uploads[begun["uploadId"]].owner)
    arrived = asyncio.Event()

    async def never(*_: Any) -> None:
        arrived.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(completion, "_STOP_SECONDS", 0.01)
    with monkeypatch.context() as stuck:
        stuck.setattr(objects, "complete_parts", never)
        body = {"revision": 0, "parts": [{**part, "checksumSHA256": hashlib.sha256(b"7 bytes").hexdigest()}]}
        asked = asyncio.create_task(uploads.complete("devkit", begun["uploadId"], body, viewer))
        await arrived.wait()
        async with asyncio.timeout(PATIENCE):
            await uploads.close()
            with pytest.raises((asyncio.CancelledError, Unavailable)):
                await asked
    await uploads.open()  # as the next start does
    assert (await uploader.ask("GET", f"{BEGIN}/{begun['uploadId']}"))["status"] == "completing"
    assert (await uploader.complete(begun, [part], revision=1))["status"] == "complete"


async def test_an_upload_that_cannot_be_noted_leaves_nothing_begun(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = uploader.client.server.app
    begun, given_up = [], []
    begin_parts, abort_parts = app[OBJECTS].begin_parts, app[OBJECTS].abort_parts

    async def begin(*arguments: Any) -> Any:
        begun.append(await begin_parts(*arguments))
        return begun[-1]

    async def abort(one: Any) -> None:
        given_up.append(one)
        await abort_parts(one)

    async def full(*_: Any) -> None:
        raise StateError("No space left on device")

    monkeypatch.setattr(app[OBJECTS], "begin_parts", begin)
    monkeypatch.setattr(app[OBJECTS], "abort_parts", abort)
    with monkeypatch.context() as disk:
        disk.setattr(app[STORE], "put", full)
        assert (await uploader.begin(7, status=503))["error"]["code"] == "STATE_WRITE_FAILED"
    assert begun == given_up != []
    with pytest.raises(PartsNotFound):
        await app[OBJECTS].parts(begun[0])
    assert (await uploader.begin(7))["status"] == "uploading"


async def test_an_input_whose_last_byte_comes_during_a_reset_is_refused_and_one_before_it_goes(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = uploader.client.server.app, uploader.client
    assert (await client.post("/v1/devkit/inputs/early.csv", data=b"bytes")).status == 201
    sent, go_on, told = asyncio.Event(), asyncio.Event(), []
    delete_namespace = app[OBJECTS].delete_namespace

    async def slowly() -> AsyncIterator[bytes]:
        yield b"by"
        sent.set()
        await go_on.wait()
        yield b"tes"

    async def then_late(namespace: str) -> None:
        await delete_namespace(namespace)
        if namespace == UPLOADS:
            go_on.set()
            told.append((await late).status)

    late = asyncio.create_task(client.post("/v1/devkit/inputs/late.csv", data=slowly()))
    await sent.wait()
    monkeypatch.setattr(app[OBJECTS], "delete_namespace", then_late)
    assert (await client.post("/v1/devkit/reset")).status == 200
    assert told == [503]
    assert (await (await client.get("/v1/devkit/inputs")).json())["items"] == []
    assert (await client.post("/v1/devkit/inputs/next.csv", data=b"bytes")).status == 201
