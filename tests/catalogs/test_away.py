"""Uploads and ingestions whose database or object store is away for a moment: none waits for a restart."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from devkit_api.catalogs.control.ingestion_routes import INGESTIONS
from devkit_api.catalogs.control.jobs import Jobs
from devkit_api.catalogs.control.routes import ADMIN
from devkit_api.catalogs.control.upload_records import Upload, UploadRecords
from devkit_api.catalogs.control.upload_routes import CATALOG_UPLOADS
from devkit_api.database.pool import unavailable
from devkit_api.errors import ObjectStoreUnavailable, Unavailable
from devkit_api.objects.namespaces import CATALOG_IMPORTS
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
        await asyncio.wait(uploads._verifying.values())
        await uploads.complete(plane.catalog, upload.upload_id, body)
    await plane.claimed(upload)


async def test_an_upload_that_nobody_verifies_is_found_by_the_sweeper(plane: Plane) -> None:
    upload, _ = await plane.sent()
    uploads = plane.app[CATALOG_UPLOADS]
    # As when what verified it has failed for a reason that nobody knows.
    await uploads._records.move(upload, "verifying")
    await uploads._sweeper.sweep()
    await plane.claimed(upload)


async def test_an_upload_whose_part_is_gone_for_good_ends_and_says_so(plane: Plane) -> None:
    upload, _ = await plane.sent()
    uploads, objects = plane.app[CATALOG_UPLOADS], plane.app[OBJECTS]
    # Taken away from outside between the completion and the look at the bytes.
    await uploads._records.move(upload, "verifying")
    await objects.delete(CATALOG_IMPORTS, upload.part_name(1))
    await uploads._sweeper.sweep()
    await asyncio.wait(uploads._verifying.values())
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
