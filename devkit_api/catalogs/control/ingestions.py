"""Ingestion jobs (wire-contract F.2): claimed uploads become one new version, one job at a time.

queued → running → completed | failed | cancelled; a failed job that may be tried again goes back to queued. The row
that says `completed` is written in the transaction that writes the version: neither is there without the other.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import psycopg2

from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.away import AWAY, while_away
from devkit_api.catalogs.control.jobs import Jobs
from devkit_api.catalogs.control.loading import Stopped, Work, load_job
from devkit_api.catalogs.control.uploads import UploadService
from devkit_api.catalogs.imports.load import ImportPlan, Source
from devkit_api.catalogs.models import DEMO_ID
from devkit_api.catalogs.service import CatalogService
from devkit_api.catalogs.writer import CatalogSpec
from devkit_api.errors import (
    CatalogReadOnly,
    DevkitError,
    IdempotencyKeyReused,
    IngestionInterrupted,
    IngestionInvalid,
    ObjectStoreUnavailable,
    StateConflict,
    Unavailable,
    VersionExists,
)

log = logging.getLogger(__name__)
Document = dict[str, Any]

# Reasons that are not in the job's files: the same job may do well later.
_PASSING = (IngestionInterrupted, ObjectStoreUnavailable, Unavailable)


class IngestionService:
    """Jobs of all catalogs."""

    def __init__(self, catalogs: CatalogService, admin: CatalogAdmin, uploads: UploadService) -> None:
        self._catalogs, self._admin, self._uploads = catalogs, admin, uploads
        self._jobs = Jobs(catalogs)
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._work: dict[str, Work] = {}

    async def open(self) -> None:
        """What was interrupted says so and may be tried again; what waited goes on waiting here."""
        for job_id in await self._jobs.interrupted():
            await self._jobs.fail(job_id, IngestionInterrupted(), retryable=True)
        for job_id in await self._jobs.queued():
            self._run_soon(job_id)

    async def close(self) -> None:
        """Stop; a job in the middle is marked by the next start."""
        tasks = list(self._tasks.values())
        for work in self._work.values():
            work.end()
        for job_id, task in self._tasks.items():
            if job_id not in self._work:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def submit(self, catalog_id: str, body: Document) -> Document:
        """Queue a job, or answer the one this idempotency key queued."""
        catalog = await self._admin.get(catalog_id)
        key, mode, label = body["idempotencyKey"], body["mode"], body["versionLabel"]
        sources = [dict(source) for source in body["sourceManifest"]]
        known = await self._jobs.by_key(catalog["id"], key)
        if known is not None:
            if (mode, label, sources) != (known["mode"], known["versionLabel"], known["sourceManifest"]):
                raise IdempotencyKeyReused
            self._run_waiting(known)
            return {**self._now(known), "outcome": "replayed"}
        await self._check_request(catalog, mode, sources, label)
        job_id = await self._jobs.submit(catalog["id"], key, mode, label, sources)
        if job_id is None:  # another request with the same key was faster
            return await self.submit(catalog_id, body)
        self._run_soon(job_id)
        return {**await self.get(catalog_id, job_id), "outcome": "created"}

    async def get(self, catalog_id: str, job_id: str) -> Document:
        """A job with its attempts. Raises `IngestionNotFound`."""
        return self._now(await self._jobs.get(catalog_id, job_id))

    async def cancel(self, catalog_id: str, job_id: str, body: Document) -> Document:
        """End a job that has not ended. From here on nothing of it can be published."""
        job = await self.get(catalog_id, job_id)
        if not await self._jobs.cancel(job["jobId"], body["stateVersion"], body["reason"]):
            raise _conflict(await self.get(catalog_id, job_id), "only a queued or running job can be cancelled")
        work = self._work.get(job["jobId"])
        if work is not None:
            work.end()
        return await self.get(catalog_id, job_id)

    async def retry(self, catalog_id: str, job_id: str, body: Document) -> Document:
        """Queue a failed job again, or answer what this key queued. The submit's own key is no retry key."""
        job = await self.get(catalog_id, job_id)
        submitted, *retried = await self._jobs.keys(job["jobId"])
        if body["idempotencyKey"] in retried:
            self._run_waiting(job)
            return {**job, "outcome": "replayed"}
        if body["idempotencyKey"] == submitted:
            raise IdempotencyKeyReused
        if not await self._jobs.retry(job["jobId"], body["stateVersion"], body["idempotencyKey"]):
            raise _conflict(await self.get(catalog_id, job_id), "only a failed job that is retryable can be retried")
        self._run_soon(job["jobId"])
        return {**await self.get(catalog_id, job_id), "outcome": "created"}

    async def clear(self) -> None:
        """Stop everything; the rows go with the catalogs."""
        await self.close()

    async def _check_request(self, catalog: Document, mode: str, sources: list[Document], label: str | None) -> None:
        name = f"{catalog['providerKey']}/{catalog['catalogKey']}"
        writable = set(catalog["ingestionTables"])
        if not writable:
            reason = "it is the demo catalog" if catalog["id"] == DEMO_ID else "it has no ingestionTables"
            raise CatalogReadOnly(catalog=name, reason=reason)
        tables = {source["targetTable"] for source in sources}
        if tables - writable:
            raise IngestionInvalid(
                reason=f"{', '.join(sorted(tables - writable))[:200]} is not among {', '.join(sorted(writable))}"
            )
        if mode == "replace" and tables != writable:
            missing = ", ".join(sorted(writable - tables))
            raise IngestionInvalid(reason=f"replace needs a source for every table, and there is none for {missing}")
        if mode == "append" and catalog["currentVersion"] is None:
            raise IngestionInvalid(reason="there is no version to append to; the first one is a replace")
        for source in sources:
            await self._uploads.claimed(catalog["id"], source["sourceUri"])
        if label is not None and any(v["versionLabel"] == label for v in await self._admin.versions(catalog["id"])):
            raise VersionExists(catalog=name, version=label)

    def _run_waiting(self, job: Document) -> None:
        """Run a queued job nobody runs: the connection was lost while it was queued, and the caller asks again."""
        if job["status"] == "queued" and job["jobId"] not in self._tasks:
            self._run_soon(job["jobId"])

    def _run_soon(self, job_id: str) -> None:
        task = self._tasks[job_id] = asyncio.create_task(self._run(job_id))
        task.add_done_callback(lambda ended: self._tasks.get(job_id) is ended and self._tasks.pop(job_id))

    async def _run(self, job_id: str) -> None:
        async with self._turn:
            if not await self._start(job_id):
                return  # cancelled while it waited
            work, problem = Work(), None
            self._work[job_id] = work
            try:
                await self._load(job_id, work)
            except Stopped:
                pass  # its state is told by who stopped it
            except DevkitError as exc:
                problem = exc
            except Exception as exc:
                if not isinstance(exc, psycopg2.Error):
                    log.exception("an ingestion failed", extra={"job": job_id})
                problem = IngestionInterrupted()
            finally:
                # Nothing is left that `close` would have to wait for.
                del self._work[job_id]
                self._catalogs.forget()
            if problem is not None:
                await self._fail(job_id, problem, work)

    async def _start(self, job_id: str) -> bool:
        """queued → running; False when it was cancelled. A database that is away is waited for."""
        async for attempt in while_away():
            with attempt:
                if await self._jobs.start(job_id):
                    return True
                # The connection may have been lost under an earlier try that took effect all the same.
                is_again = attempt.retry_state.attempt_number > 1
                return is_again and (await self._jobs.by_id(job_id))["status"] == "running"
        return False

    async def _fail(self, job_id: str, problem: DevkitError, work: Work) -> None:
        """running → failed, once the database is there; a devkit that stops leaves it to the next start."""
        retryable = isinstance(problem, _PASSING)
        try:
            await while_away(stop=lambda _: work.stop)(self._jobs.fail, job_id, problem, retryable=retryable)
        except AWAY:
            log.warning("an interrupted ingestion is marked by the next start", extra={"job": job_id})

    async def _load(self, job_id: str, work: Work) -> None:
        async with AsyncExitStack() as stack:
            plan = await self._plan(job_id, stack)
            await asyncio.to_thread(load_job, self._catalogs.database.target, job_id, plan, work)

    async def _plan(self, job_id: str, stack: AsyncExitStack) -> ImportPlan:
        """The job's files, which stay at hand as long as the stack does."""
        job = await self._jobs.by_id(job_id)
        catalog = await self._admin.get(job["catalogId"])
        sources = []
        for source in job["sourceManifest"]:
            upload = await self._uploads.claimed(job["catalogId"], source["sourceUri"])
            path = await stack.enter_async_context(self._uploads.as_file(upload))
            sources.append(Source(path, upload.filename, source["targetTable"]))
        spec = CatalogSpec(catalog["providerKey"], catalog["catalogKey"], catalog["label"], catalog["description"])
        label = job["versionLabel"] or f"ingest-{job_id[:13]}"
        return ImportPlan(spec, label, sources, append=job["mode"] == "append")

    def _now(self, job: Document) -> Document:
        """The job, and how far its loading is."""
        work = self._work.get(job["jobId"])
        if work is not None and job["status"] == "completed":
            self._catalogs.forget()  # its thread has not come back yet, and who hears of the version may ask for it
        return {**job, "progress": work.view() if work is not None and job["status"] == "running" else None}


def _conflict(job: Document, reason: str) -> StateConflict:
    return StateConflict(status=job["status"], state_version=job["stateVersion"], reason=reason)
