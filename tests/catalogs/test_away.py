"""Uploads and ingestions whose database or object store is away for a moment: none waits for a restart."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import AsyncMock

import attrs
import psycopg2
import pytest
from aiohttp import web

from devkit_api.catalogs import purge
from devkit_api.catalogs import service as service_module
from devkit_api.catalogs.control import ingestions as ingestions_module
from devkit_api.catalogs.control import jobs as jobs_module
from devkit_api.catalogs.control import uploads as uploads_module
from devkit_api.catalogs.control.ingestion_routes import INGESTIONS
from devkit_api.catalogs.control.jobs import Jobs
from devkit_api.catalogs.control.routes import ADMIN
from devkit_api.catalogs.control.upload_records import Upload, UploadRecords
from devkit_api.catalogs.control.upload_routes import CATALOG_UPLOADS
from devkit_api.catalogs.routes import CATALOGS
from devkit_api.database.pool import fetch, unavailable, write
from devkit_api.errors import (
    CatalogNotFound,
    CatalogUploadNotFound,
    IngestionNotFound,
    ObjectStoreUnavailable,
    StateConflict,
    Unavailable,
)
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.protocol import Expected
from devkit_api.objects.routes import OBJECTS
from tests.catalogs.test_control_plane import MORE
from tests.support.waiting import PATIENCE

Document = dict[str, Any]
AWAY = ObjectStoreUnavailable(reason="the bucket is away")
TABLE = "sample_peptide_mappings"


@attrs.define
class Plane:
    """The services of a devkit in this process, and one catalog."""

    app: web.Application
    catalog: str

    async def sent(self, key: str = "u") -> tuple[Upload, Document]:
        """An upload whose only part is stored, and the body that completes it."""
        data, uploads, objects = MORE.encode(), self.app[CATALOG_UPLOADS], self.app[OBJECTS]
        body = {
            "filename": "rows.csv", "declaredSizeBytes": len(data), "declaredSHA256": hashlib.sha256(data).hexdigest(),
            "idempotencyKey": key, "contentType": "text/csv",
        }  # fmt: skip
        begun = await uploads.begin(self.catalog, body)
        upload = await uploads.get(self.catalog, begun["uploadId"])
        info = {"content_type": "text/csv", "metadata": {}}
        stored = await objects.put(CATALOG_IMPORTS, upload.part_name(1), _once(data), None, info)
        part = {"partNumber": 1, "etag": stored.version, "checksumSHA256": stored.sha256}
        return upload, {"stateVersion": upload.state_version, "parts": [part]}

    async def claimed(self, upload: Upload) -> Document:
        """The upload once it is claimed and its part is gone."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.app[CATALOG_UPLOADS].get(self.catalog, upload.upload_id)
                part = await self.app[OBJECTS].stat(CATALOG_IMPORTS, upload.part_name(1))
                if found.status != "verifying" and part is None:
                    assert found.status == "claimed"
                    return self.app[CATALOG_UPLOADS].view(found)
                await asyncio.sleep(0.02)  # asked again, as a client does

    async def ingestion(self) -> Document:
        """The body of an ingestion of one new upload."""
        upload, body = await self.sent()
        await self.app[CATALOG_UPLOADS].complete(self.catalog, upload.upload_id, body)
        source = {"sourceUri": (await self.claimed(upload))["s3Uri"], "targetTable": TABLE}
        return {"sourceManifest": [source], "mode": "replace", "versionLabel": None, "idempotencyKey": "first"}

    async def ended(self, job: Document) -> Document:
        """The job once it has ended."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.app[INGESTIONS].get(self.catalog, job["jobId"]))["status"] in _OPEN:
                await asyncio.sleep(0.02)  # asked again, as a client does
            return found


_OPEN = {"queued", "running"}


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def plane(make_client: Any, external: dict[str, str], fresh_key: str) -> Plane:
    app = (await make_client(**{"catalogs": "on", **external})).app
    body = {
        "providerKey": "lab", "catalogKey": fresh_key, "label": "L", "description": "", "domain": "immunopeptidomics",
        "schemaName": "observation", "sourceTables": [TABLE], "ingestionTables": [TABLE],
    }  # fmt: skip
    return Plane(app, (await app[ADMIN].create(body))["id"])


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Exception]]:
    """Has a method raise these errors, one a call; the errors that are left. `late` ones come after it has worked."""

    def arrange(owner: Any, method: str, *errors: Exception, late: bool = False) -> list[Exception]:
        real, left = getattr(owner, method), list(errors)

        async def failing(*arguments: Any, **options: Any) -> Any:
            if not left:
                return await real(*arguments, **options)
            if late and len(left) == len(errors):
                await real(*arguments, **options)
            raise left.pop(0)

        monkeypatch.setattr(owner, method, failing)
        return left

    return arrange


async def test_an_upload_is_claimed_once_what_failed_is_back(plane: Plane, fail: Any) -> None:
    upload, body = await plane.sent()
    objects = plane.app[OBJECTS]
    faults = [
        fail(objects, "put", AWAY, OSError(28, "No space left on device")),
        fail(objects, "delete", AWAY),
    ]
    moved: list[str] = []
    records, real = plane.app[CATALOG_UPLOADS]._records, UploadRecords.move

    async def move(upload: Upload, status: str, reason: str | None = None) -> Upload:
        moved.append(status)
        if moved == ["verifying", "claimed"]:
            raise unavailable()
        found = await real(records, upload, status, reason)
        if moved == ["verifying", "claimed", "claimed"]:
            raise unavailable()  # the connection was lost under a statement that took effect
        return found

    records.move = move  # type: ignore[method-assign]
    await plane.app[CATALOG_UPLOADS].complete(plane.catalog, upload.upload_id, body)
    await plane.claimed(upload)
    assert faults == [[], []]
    assert moved == ["verifying", "claimed", "claimed"]


@pytest.mark.parametrize("took_effect", [True, False])
async def test_an_upload_whose_completion_was_not_answered_goes_on(plane: Plane, fail: Any, took_effect: bool) -> None:
    upload, body = await plane.sent()
    uploads = plane.app[CATALOG_UPLOADS]
    fail(uploads._records, "move", unavailable(), late=took_effect)
    with pytest.raises(Unavailable):
        await uploads.complete(plane.catalog, upload.upload_id, body)
    if not took_effect:
        await asyncio.gather(*uploads._verifying.values())
        await uploads.complete(plane.catalog, upload.upload_id, body)
    await plane.claimed(upload)


async def test_an_upload_that_is_completed_while_it_is_looked_at_is_verified(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a completion that was not answered, what looks may have found it as it was before the next one."""
    upload, body = await plane.sent()
    uploads = plane.app[CATALOG_UPLOADS]
    has_looked, go_on, get = asyncio.Event(), asyncio.Event(), uploads._records.get

    async def get_and_dawdle(*names: str) -> Upload:
        found = await get(*names)
        if names == (upload.upload_id,) and not has_looked.is_set():
            has_looked.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(uploads._records, "get", get_and_dawdle)
    monkeypatch.setattr(uploads_module, "_WAIT_SECONDS", 0)
    uploads._verify_soon(upload)
    await has_looked.wait()
    assert (await uploads.complete(plane.catalog, upload.upload_id, body))["status"] == "verifying"
    go_on.set()
    await plane.claimed(upload)


async def test_an_upload_that_nobody_verifies_is_found_by_the_sweeper(plane: Plane) -> None:
    upload, _ = await plane.sent()
    uploads = plane.app[CATALOG_UPLOADS]
    # As when what verified it has failed for a reason that nobody knows.
    await uploads._records.move(upload, "verifying")
    await uploads._sweeper.sweep()
    await plane.claimed(upload)


@pytest.mark.parametrize("end", ["complete", "abort", "reset"])
async def test_a_part_whose_last_byte_comes_after_the_end_is_not_kept(plane: Plane, end: str) -> None:
    upload, body = await plane.sent()
    uploads, name, data = plane.app[CATALOG_UPLOADS], upload.part_name(1), MORE.encode()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:5]
        arrived.set()
        await go_on.wait()
        yield data[5:]

    expected = Expected(len(data), hashlib.sha256(data).hexdigest())
    info = {"content_type": "text/csv", "metadata": {}}
    sending = asyncio.create_task(uploads.put_part(name, slowly(), expected, info))
    await arrived.wait()
    if end == "complete":
        await uploads.complete(plane.catalog, upload.upload_id, body)
        await plane.claimed(upload)
    elif end == "abort":
        await uploads.abort(plane.catalog, upload.upload_id, upload.state_version)
    else:  # as `reset` does it: rows first, then files
        gone = "DELETE FROM devkit.catalog_uploads WHERE upload_id = %s RETURNING 1"
        await write(plane.app[CATALOGS].database.owner, gone, [upload.upload_id])
        await uploads.clear()
    go_on.set()
    with pytest.raises((StateConflict, CatalogUploadNotFound)):
        await sending
    assert await plane.app[OBJECTS].stat(CATALOG_IMPORTS, name) is None


@pytest.mark.parametrize("work", ["_start_over", "_remove"])
async def test_removing_catalogs_begins_again_when_it_met_an_import_crosswise(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """PostgreSQL ends one of two transactions that wait for each other; it loses nothing by being done again."""
    real, left = getattr(purge, work), [psycopg2.errors.DeadlockDetected("deadlock detected")] * 2

    def crosswise(*arguments: Any) -> None:
        if left:
            raise left.pop()
        real(*arguments)

    monkeypatch.setattr(purge, work, crosswise)
    admin, database = plane.app[ADMIN], plane.app[CATALOGS].database
    await admin.delete(plane.catalog)
    await (purge.reset_catalogs(database) if work == "_start_over" else purge.purge_inactive(database, plane.catalog))
    assert left == []
    assert await fetch(database.owner, "SELECT 1 FROM devkit.catalogs WHERE catalog_id = %s", [plane.catalog]) == []


async def test_what_is_begun_for_a_catalog_that_goes_meanwhile_is_told_so(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await plane.ingestion()
    admin, uploads, jobs = plane.app[ADMIN], plane.app[CATALOG_UPLOADS], plane.app[INGESTIONS]
    queued = await jobs._jobs.submit(plane.catalog, "key", "replace", None, body["sourceManifest"])
    known, by_keys = await admin.get(plane.catalog), jobs._jobs.by_key
    monkeypatch.setattr(admin, "get", AsyncMock(return_value=known))  # as it was a moment ago
    monkeypatch.setattr(jobs, "_check_request", AsyncMock())
    monkeypatch.setattr(jobs._jobs, "by_key", AsyncMock(return_value=None))
    database = plane.app[CATALOGS].database
    deleted = "UPDATE devkit.catalogs SET active = false WHERE catalog_id = %s RETURNING 1"
    await write(database.owner, deleted, [plane.catalog])
    await purge.purge_inactive(database, plane.catalog)
    declared = {"filename": "a.csv", "declaredSizeBytes": 1, "declaredSHA256": "0" * 64, "contentType": "text/csv"}
    with pytest.raises(CatalogNotFound):
        await uploads.begin(plane.catalog, {**declared, "idempotencyKey": "late"})
    with pytest.raises(CatalogNotFound):
        await jobs.submit(plane.catalog, body)
    monkeypatch.setattr(jobs._jobs, "by_key", by_keys)
    with pytest.raises(IngestionNotFound):
        await jobs._jobs.by_id(queued)


async def test_a_version_is_seen_by_whoever_hears_that_its_job_is_completed(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that committed it may come back later than the caller who asks how the job is."""
    body, catalogs = await plane.ingestion(), plane.app[CATALOGS]
    go_on, load_job = threading.Event(), ingestions_module.load_job

    def load_and_dawdle(*arguments: Any) -> None:
        load_job(*arguments)
        go_on.wait(PATIENCE)

    monkeypatch.setattr(ingestions_module, "load_job", load_and_dawdle)
    monkeypatch.setattr(service_module, "_FRESH_SECONDS", math.inf)
    assert (await catalogs.by_id(plane.catalog)).version(None) is None
    try:
        ended = await plane.ended(await plane.app[INGESTIONS].submit(plane.catalog, body))
        found = (await catalogs.by_id(plane.catalog)).version(None)
    finally:
        go_on.set()
    assert (ended["status"], ended["progress"]) == ("completed", None)
    assert found is not None
    assert found.version_id == ended["catalogVersionId"]


async def test_what_changes_while_the_directory_is_read_is_seen_by_the_next_who_asks(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogs = plane.app[CATALOGS]
    has_read, go_on, read = asyncio.Event(), asyncio.Event(), catalogs._read

    async def read_and_dawdle() -> Any:
        found = await read()
        has_read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(service_module, "_FRESH_SECONDS", math.inf)
    monkeypatch.setattr(catalogs, "_read", read_and_dawdle)
    catalogs.forget()
    early = asyncio.create_task(catalogs.by_id(plane.catalog))
    await has_read.wait()
    renamed = "UPDATE devkit.catalogs SET label = 'Another' WHERE catalog_id = %s RETURNING 1"
    await write(catalogs.database.owner, renamed, [plane.catalog])
    catalogs.forget()
    go_on.set()
    assert (await early).label == "L"
    assert (await catalogs.by_id(plane.catalog)).label == "Another"


async def test_a_job_that_goes_between_two_looks_is_not_there(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    body, jobs = await plane.ingestion(), plane.app[INGESTIONS]._jobs
    job = await jobs.submit(plane.catalog, "key", "replace", None, body["sourceManifest"])
    monkeypatch.setattr(jobs_module, "_ATTEMPTS", jobs_module._ATTEMPTS.replace("WHERE", "WHERE false AND"))
    with pytest.raises(IngestionNotFound):
        await jobs.get(plane.catalog, job)
    with pytest.raises(IngestionNotFound):
        await jobs.keys("00000000-0000-0000-0000-000000000000")


async def test_an_upload_whose_part_is_gone_for_good_ends_and_says_so(plane: Plane) -> None:
    upload, _ = await plane.sent()
    uploads, objects = plane.app[CATALOG_UPLOADS], plane.app[OBJECTS]
    # Taken away from outside between the completion and the look at the bytes. The sweep of the start may still be at
    # work, and must not look at them before.
    await objects.delete(CATALOG_IMPORTS, upload.part_name(1))
    await uploads._records.move(upload, "verifying")
    await uploads._sweeper.sweep()
    await asyncio.gather(*uploads._verifying.values())
    shown = uploads.view(await uploads.get(plane.catalog, upload.upload_id))
    assert shown["status"] == "aborted"
    assert "no longer stored" in shown["reason"]
    # It is not looked at again.
    await uploads._sweeper.sweep()
    assert not uploads._verifying


async def test_a_job_is_run_although_its_start_was_not_answered(plane: Plane, fail: Any) -> None:
    body = await plane.ingestion()
    left = fail(Jobs, "start", unavailable(), unavailable(), late=True)
    ended = await plane.ended(await plane.app[INGESTIONS].submit(plane.catalog, body))
    assert (ended["status"], left) == ("completed", [])


async def test_a_job_whose_submit_was_not_answered_is_run_when_it_is_repeated(plane: Plane, fail: Any) -> None:
    body = await plane.ingestion()
    fail(Jobs, "submit", unavailable(), late=True)
    with pytest.raises(Unavailable):
        await plane.app[INGESTIONS].submit(plane.catalog, body)
    again = await plane.app[INGESTIONS].submit(plane.catalog, body)
    assert (again["outcome"], (await plane.ended(again))["status"]) == ("replayed", "completed")


@pytest.mark.parametrize("away", [AWAY, unavailable()], ids=["objects", "database"])
async def test_a_job_that_met_what_passes_may_be_retried(plane: Plane, fail: Any, away: Exception) -> None:
    body, jobs = await plane.ingestion(), plane.app[INGESTIONS]
    left = fail(plane.app[OBJECTS], "stat", away)
    failed = await plane.ended(await jobs.submit(plane.catalog, body))
    assert (failed["status"], failed["retryable"], left) == ("failed", True, [])
    await jobs.retry(plane.catalog, failed["jobId"], {"stateVersion": failed["stateVersion"], "idempotencyKey": "2"})
    assert (await plane.ended(failed))["status"] == "completed"
