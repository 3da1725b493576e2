"""Ingestion jobs as the database has them: their states, attempts and idempotency keys.

States change by compare-and-set; an attempt is written in the statement that moves its job.
"""

from __future__ import annotations

from typing import Any

import psycopg2
from psycopg2.extras import Json

from devkit_api.catalogs.control.admin import uuid
from devkit_api.catalogs.service import CatalogService
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import CatalogNotFound, DevkitError, IngestionNotFound

Document = dict[str, Any]

# Held while a job is loaded: a job that is `running` with nobody holding its lock was interrupted.
RUNNING_LOCK = 4_100_622
_COLUMNS = (
    "jobId", "catalogId", "mode", "versionLabel", "sourceManifest", "status", "stateVersion", "retryable",
    "catalogVersionId", "cancelReason", "createdAt", "updatedAt",
)  # fmt: skip
_JOB = """
SELECT job_id::text, catalog_id::text, mode, version_label, sources, status, state_version, retryable, version_id::text,
       cancel_reason, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}'
  FROM devkit.ingestions"""
_ATTEMPTS = """
SELECT number, error, report, to_json(created_at)#>>'{}', to_json(started_at)#>>'{}', to_json(finished_at)#>>'{}'
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
_INTERRUPTED = """
SELECT job_id::text FROM devkit.ingestions
 WHERE status = 'running' AND pg_try_advisory_xact_lock(%s, hashtext(job_id::text))"""


class Jobs:
    """Jobs of all catalogs."""

    def __init__(self, catalogs: CatalogService) -> None:
        self._catalogs = catalogs

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def submit(
        self, catalog_id: str, key: str, mode: str, label: str | None, sources: list[Document]
    ) -> str | None:
        """Queue a job: its id, or None when the idempotency key is in use. Raises `CatalogNotFound`."""
        try:
            made = await write(self._pool, _SUBMIT, [catalog_id, key, mode, label, Json(sources)])
        except psycopg2.errors.ForeignKeyViolation:  # it was purged a moment ago
            raise CatalogNotFound(catalog=catalog_id) from None
        return made[0][0] if made else None

    async def get(self, catalog_id: str, job_id: str) -> Document:
        """A job with its attempts. Raises `IngestionNotFound`."""
        statement = _JOB + " WHERE catalog_id = %s AND job_id = %s"
        rows = await fetch(self._pool, statement, [uuid(catalog_id), uuid(job_id)])
        if not rows:
            raise IngestionNotFound(job_id=job_id[:50])
        return await self._view(rows[0])

    async def by_id(self, job_id: str) -> Document:
        """A job, whatever its catalog. Raises `IngestionNotFound`."""
        return await self._view((await self._rows(job_id, _JOB + " WHERE job_id = %s"))[0])

    async def by_key(self, catalog_id: str, key: str) -> Document | None:
        """The job that an idempotency key queued."""
        rows = await fetch(self._pool, _JOB + " WHERE catalog_id = %s AND idempotency_key = %s", [catalog_id, key])
        return await self._view(rows[0]) if rows else None

    async def keys(self, job_id: str) -> list[str]:
        """The idempotency keys of a job's attempts, that of the submit first. Raises `IngestionNotFound`."""
        statement = "SELECT idempotency_key FROM devkit.ingestion_attempts WHERE job_id = %s ORDER BY number"
        return [row[0] for row in await self._rows(job_id, statement)]

    async def interrupted(self) -> list[str]:
        """Jobs that are running, and nobody loads."""
        return [row[0] for row in await fetch(self._pool, _INTERRUPTED, [RUNNING_LOCK])]

    async def queued(self) -> list[str]:
        """Jobs that wait, oldest first."""
        statement = "SELECT job_id::text FROM devkit.ingestions WHERE status = 'queued' ORDER BY updated_at"
        return [row[0] for row in await fetch(self._pool, statement)]

    async def start(self, job_id: str) -> bool:
        """queued → running; False when it was cancelled while it waited."""
        return bool(await write(self._pool, _START, [job_id]))

    async def retry(self, job_id: str, state_version: int, key: str) -> bool:
        """failed → queued; False when it is not a failed job at this state version that may be tried again."""
        return bool(await write(self._pool, _RETRY, [job_id, state_version, key]))

    async def cancel(self, job_id: str, state_version: int, reason: str | None) -> bool:
        """queued or running → cancelled; False when it is neither at this state version."""
        values = _end(job_id, "cancelled", ["queued", "running"], at=state_version, reason=reason)
        return bool(await write(self._pool, _END, values))

    async def fail(self, job_id: str, exc: DevkitError, *, retryable: bool) -> None:
        """running → failed, with what the caller is to know of it."""
        error = {"code": exc.code, "message": exc.message, "hint": exc.advice, "docs": exc.docs}
        report = Json(exc.details) if exc.details else None
        values = _end(job_id, "failed", ["running"], retryable=retryable, error=Json(error), report=report)
        await write(self._pool, _END, values)

    async def _view(self, row: tuple[Any, ...]) -> Document:
        names = ("number", "error", "report", "createdAt", "startedAt", "finishedAt")
        attempts = [dict(zip(names, found, strict=True)) for found in await self._rows(row[0], _ATTEMPTS)]
        return {**dict(zip(_COLUMNS, row, strict=True)), "attempt": attempts[-1], "attempts": len(attempts)}

    async def _rows(self, job_id: str, statement: str) -> list[tuple[Any, ...]]:
        """What is known of a job, which has rows of every kind as long as its catalog is there."""
        rows = await fetch(self._pool, statement, [job_id])
        if not rows:
            raise IngestionNotFound(job_id=job_id)
        return rows


def complete(cursor: Any, job_id: str, version_id: str) -> bool:
    """running → completed, in the transaction that writes the version. Blocking; False when the job was cancelled."""
    cursor.execute(_END, _end(job_id, "completed", ["running"], version=version_id))
    return cursor.fetchone() is not None


def _end(job_id: str, status: str, allowed: list[str], **changes: Any) -> Document:
    unset = {"at": None, "retryable": False, "reason": None, "version": None, "error": None, "report": None}
    return {"job": job_id, "status": status, "from": allowed, **unset, **changes}
