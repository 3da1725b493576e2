"""Ingestion jobs (wire-contract F.2): claimed uploads become one new version, one job at a time.

queued → running → completed | failed | cancelled; a failed job that may be tried again goes back to queued. The row
that says `completed` is written in the transaction that writes the version: neither is there without the other.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import attrs
import psycopg2
from psycopg2.extras import Json

from devkit_api.catalogs.control.admin import CatalogAdmin, uuid
from devkit_api.catalogs.control.uploads import Upload, UploadService
from devkit_api.catalogs.imports.load import ImportPlan, Source, load
from devkit_api.catalogs.models import DEMO_ID
from devkit_api.catalogs.service import CatalogService
from devkit_api.catalogs.writer import CatalogSpec
from devkit_api.database.migrate import connect
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import (
    CatalogReadOnly,
    DevkitError,
    IdempotencyKeyReused,
    IngestionInterrupted,
    IngestionInvalid,
    IngestionNotFound,
    StateConflict,
    VersionExists,
)

log = logging.getLogger(__name__)
Document = dict[str, Any]

# Held while a job is loaded: a job that is `running` with nobody holding its lock was interrupted.
_RUNNING = 4_100_622
_JOB = """
SELECT job_id::text, catalog_id::text, mode, version_label, sources, status, state_version, retryable, version_id::text,
       cancel_reason, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}', idempotency_key
  FROM devkit.ingestions"""
_ATTEMPTS = """
SELECT number, error, report, to_json(created_at)#>>'{}', to_json(started_at)#>>'{}', to_json(finished_at)#>>'{}',
       idempotency_key
  FROM devkit.ingestion_attempts WHERE job_id = %s ORDER BY number"""
_SUBMIT = """
WITH made AS (
    INSERT INTO devkit.ingestions (catalog_id, idempotency_key, mode, version_label, sources)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING job_id, idempotency_key)
INSERT INTO devkit.ingestion_attempts (job_id, number, idempotency_key) SELECT job_id, 1, idempotency_key FROM made
RETURNING job_id::text"""
_RETRY = """
WITH moved AS (
    UPDATE devkit.ingestions SET status = 'queued', retryable = false, state_version = state_version + 1,
           updated_at = now()
     WHERE job_id = %s AND state_version = %s AND status = 'failed' AND retryable RETURNING job_id)
INSERT INTO devkit.ingestion_attempts (job_id, number, idempotency_key)
SELECT job_id, (SELECT max(number) + 1 FROM devkit.ingestion_attempts a WHERE a.job_id = m.job_id), %s FROM moved m
RETURNING 1"""
_START = """
WITH moved AS (
    UPDATE devkit.ingestions SET status = 'running', state_version = state_version + 1, updated_at = now()
     WHERE job_id = %s AND status = 'queued' RETURNING job_id)
UPDATE devkit.ingestion_attempts a SET started_at = now() FROM moved m
 WHERE a.job_id = m.job_id AND number = (SELECT max(number) FROM devkit.ingestion_attempts x WHERE x.job_id = m.job_id)
RETURNING 1"""
_END = """
WITH moved AS (
    UPDATE devkit.ingestions SET status = %(status)s, retryable = %(retryable)s, version_id = %(version)s,
           cancel_reason = %(reason)s, state_version = state_version + 1, updated_at = now()
     WHERE job_id = %(job)s AND status = ANY(%(from)s) AND (%(at)s IS NULL OR state_version = %(at)s) RETURNING job_id)
UPDATE devkit.ingestion_attempts a SET finished_at = now(), error = %(error)s, report = %(report)s FROM moved m
 WHERE a.job_id = m.job_id AND number = (SELECT max(number) FROM devkit.ingestion_attempts x WHERE x.job_id = m.job_id)
RETURNING 1"""


class _Stopped(Exception):
    """The job was cancelled, or the devkit stops."""


@attrs.define
class _Work:
    """A job being loaded. `stop` makes its thread give up at the next look."""

    connection: Any = None
    stop: bool = False
    phase: str = "reading"
    rows: dict[int, int] = attrs.Factory(dict)

    def end(self) -> None:
        """Stop as soon as can be; a statement in progress is cancelled."""
        self.stop = True
        if self.connection is not None and not self.connection.closed:
            self.connection.cancel()

    def view(self) -> Document:
        """For answers."""
        return {"phase": self.phase, "rows": sum(self.rows.values())}


class IngestionService:
    """Jobs of all catalogs."""

    def __init__(self, catalogs: CatalogService, admin: CatalogAdmin, uploads: UploadService) -> None:
        self._catalogs, self._admin, self._uploads = catalogs, admin, uploads
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._work: dict[str, _Work] = {}

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def open(self) -> None:
        """What was interrupted says so and may be tried again; what waited goes on waiting here."""
        interrupted = await fetch(
            self._pool,
            "SELECT job_id::text FROM devkit.ingestions WHERE status = 'running'"
            " AND pg_try_advisory_xact_lock(%s, hashtext(job_id::text))",
            [_RUNNING],
        )
        for (job_id,) in interrupted:
            await self._fail(job_id, IngestionInterrupted(), retryable=True)
        waiting = await fetch(
            self._pool, "SELECT job_id::text FROM devkit.ingestions WHERE status = 'queued' ORDER BY updated_at"
        )
        for (job_id,) in waiting:
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
        sources = [dict(source) for source in body["sourceManifest"]]
        request = (body["mode"], body["versionLabel"], sources)
        known = await self._by_key(catalog["id"], body["idempotencyKey"])
        if known is not None:
            if request != (known["mode"], known["versionLabel"], known["sourceManifest"]):
                raise IdempotencyKeyReused
            return {**known, "outcome": "replayed"}
        await self._check_request(catalog, body["mode"], sources, body["versionLabel"])
        values = [catalog["id"], body["idempotencyKey"], body["mode"], body["versionLabel"], Json(sources)]
        made = await write(self._pool, _SUBMIT, values)
        if not made:  # another request with the same key was faster
            return await self.submit(catalog_id, body)
        self._run_soon(made[0][0])
        return {**await self.get(catalog_id, made[0][0]), "outcome": "created"}

    async def get(self, catalog_id: str, job_id: str) -> Document:
        """A job with its attempts. Raises `IngestionNotFound`."""
        rows = await fetch(
            self._pool, _JOB + " WHERE catalog_id = %s AND job_id = %s", [uuid(catalog_id), uuid(job_id)]
        )
        if not rows:
            raise IngestionNotFound(job_id=job_id[:50])
        return await self._view(rows[0])

    async def cancel(self, catalog_id: str, job_id: str, body: Document) -> Document:
        """End a job that has not ended. From here on nothing of it can be published."""
        job = await self.get(catalog_id, job_id)
        moved = await self._end(
            job["jobId"], "cancelled", allowed=["queued", "running"], at=body["stateVersion"], reason=body["reason"]
        )
        if not moved:
            raise _conflict(await self.get(catalog_id, job_id), "only a queued or running job can be cancelled")
        work = self._work.get(job["jobId"])
        if work is not None:
            work.end()
        return await self.get(catalog_id, job_id)

    async def retry(self, catalog_id: str, job_id: str, body: Document) -> Document:
        """Queue a failed job again, or answer what this key queued. The submit's own key is no retry key."""
        job = await self.get(catalog_id, job_id)
        attempts = await fetch(self._pool, _ATTEMPTS, [job["jobId"]])
        keys = [row[6] for row in attempts]
        if body["idempotencyKey"] in keys[1:]:
            return {**job, "outcome": "replayed"}
        if body["idempotencyKey"] == keys[0]:
            raise IdempotencyKeyReused
        moved = await write(self._pool, _RETRY, [job["jobId"], body["stateVersion"], body["idempotencyKey"]])
        if not moved:
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
            await self._claimed(catalog["id"], source["sourceUri"])
        if label is not None and any(v["versionLabel"] == label for v in await self._admin.versions(catalog["id"])):
            raise VersionExists(catalog=name, version=label)

    async def _claimed(self, catalog_id: str, uri: str) -> Upload:
        upload = await self._uploads.of_uri(catalog_id, uri)
        if upload is None or upload.status != "claimed":
            raise IngestionInvalid(reason=f"{uri[:200]} is no claimed upload of this catalog")
        return upload

    def _run_soon(self, job_id: str) -> None:
        task = asyncio.create_task(self._run(job_id))
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def _run(self, job_id: str) -> None:
        async with self._turn:
            if not await write(self._pool, _START, [job_id]):
                return  # cancelled while it waited
            work = self._work[job_id] = _Work()
            try:
                await self._load(job_id, work)
                self._catalogs.forget()
            except _Stopped:
                pass  # its state is told by who stopped it
            except DevkitError as exc:
                await self._fail(job_id, exc, retryable=False)
            except Exception as exc:
                if not isinstance(exc, psycopg2.Error):
                    log.exception("an ingestion failed", extra={"job": job_id})
                await self._fail(job_id, IngestionInterrupted(), retryable=True)
            finally:
                del self._work[job_id]

    async def _load(self, job_id: str, work: _Work) -> None:
        async with AsyncExitStack() as stack:
            plan = await self._plan(job_id, stack)
            await asyncio.to_thread(self._load_blocking, job_id, plan, work)

    async def _plan(self, job_id: str, stack: AsyncExitStack) -> ImportPlan:
        """The job's files, which stay at hand as long as the stack does."""
        row = (await fetch(self._pool, _JOB + " WHERE job_id = %s", [job_id]))[0]
        catalog = await self._admin.get(row[1])
        sources = []
        for source in row[4]:
            upload = await self._claimed(row[1], source["sourceUri"])
            path = await stack.enter_async_context(self._uploads.as_file(upload))
            sources.append(Source(path, upload.filename, source["targetTable"]))
        spec = CatalogSpec(catalog["providerKey"], catalog["catalogKey"], catalog["label"], catalog["description"])
        return ImportPlan(spec, row[3] or f"ingest-{job_id[:13]}", sources, append=row[2] == "append")

    def _load_blocking(self, job_id: str, plan: ImportPlan, work: _Work) -> None:
        with connect(self._catalogs.database.target) as connection:
            work.connection = connection
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [_RUNNING, job_id])
            try:
                load(connection, plan, _JobWatch(job_id, work))
            except psycopg2.errors.QueryCanceled:
                if work.stop:
                    raise _Stopped from None
                raise

    async def _fail(self, job_id: str, exc: DevkitError, *, retryable: bool) -> None:
        error = {"code": exc.code, "message": exc.message, "hint": exc.advice, "docs": exc.docs}
        await self._end(
            job_id, "failed", allowed=["running"], retryable=retryable, error=error, report=exc.details or None
        )

    async def _end(
        self, job_id: str, status: str, *, allowed: list[str], at: int | None = None, retryable: bool = False,
        reason: str | None = None, error: Document | None = None, report: Document | None = None,
    ) -> bool:  # fmt: skip
        values = {
            "job": job_id, "status": status, "from": allowed, "at": at, "retryable": retryable, "reason": reason,
            "version": None, "error": Json(error) if error else None, "report": Json(report) if report else None,
        }  # fmt: skip
        return bool(await write(self._pool, _END, values))

    async def _by_key(self, catalog_id: str, key: str) -> Document | None:
        rows = await fetch(self._pool, _JOB + " WHERE catalog_id = %s AND idempotency_key = %s", [catalog_id, key])
        return await self._view(rows[0]) if rows else None

    async def _view(self, row: tuple[Any, ...]) -> Document:
        attempts = [_attempt(attempt) for attempt in await fetch(self._pool, _ATTEMPTS, [row[0]])]
        work = self._work.get(row[0])
        names = (
            "jobId", "catalogId", "mode", "versionLabel", "sourceManifest", "status", "stateVersion", "retryable",
            "catalogVersionId", "cancelReason", "createdAt", "updatedAt",
        )  # fmt: skip
        return {
            **dict(zip(names, row[:12], strict=True)),
            "progress": work.view() if work else None,
            "attempt": attempts[-1],
            "attempts": len(attempts),
        }


class _JobWatch:
    """An import's `Watch`: gives up when told to, and completes the job with its version."""

    def __init__(self, job_id: str, work: _Work) -> None:
        self._job_id, self._work = job_id, work

    def read(self, source: int, read_bytes: int, rows: int) -> None:
        self._work.rows[source] = rows
        self._look()

    def writing(self) -> None:
        self._work.phase = "writing"
        self._look()

    def before_commit(self, cursor: Any, version_id: str) -> None:
        self._look()
        values = {
            "job": self._job_id, "status": "completed", "from": ["running"], "at": None, "retryable": False,
            "reason": None, "version": version_id, "error": None, "report": None,
        }  # fmt: skip
        cursor.execute(_END, values)
        if cursor.fetchone() is None:
            raise _Stopped  # cancelled a moment ago

    def _look(self) -> None:
        if self._work.stop:
            raise _Stopped


def _attempt(row: tuple[Any, ...]) -> Document:
    names = ("number", "error", "report", "createdAt", "startedAt", "finishedAt")
    return dict(zip(names, row[:6], strict=True))


def _conflict(job: Document, reason: str) -> StateConflict:
    return StateConflict(status=job["status"], state_version=job["stateVersion"], reason=reason)
