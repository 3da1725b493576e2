"""Reports people attach to a run: a PDF and a JSON snapshot, copied from uploads (wire-contract C.5)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import attrs
from marshmallow import fields, validate

from devkit_api import jsonio
from devkit_api.errors import ObjectNotFound, ReportConflict, ReportInvalid, ReportNotFound
from devkit_api.ids import utc_now
from devkit_api.objects.addresses import Addresses
from devkit_api.objects.inputs import Inputs
from devkit_api.objects.namespaces import UPLOADS, run_reports
from devkit_api.objects.protocol import ObjectInfo, ObjectStore
from devkit_api.runs.models import Run
from devkit_api.schemas import StrictSchema
from devkit_api.security.principals import Principal

# Name in a report, and the largest size in bytes.
FILES = {"pdf": 20 * 1024**2, "snapshot": 5 * 1024**2}
RECEIPT_SECONDS = 300
_NOTE = "report.json"


class UploadSchema(StrictSchema):
    """An upload: `sourceId` is free, as the devkit has one place for uploads."""

    sourceId = fields.String(required=True, validate=validate.Length(1, 100))
    uploadId = fields.String(required=True, validate=validate.Length(1, 64))


class ReportSchema(StrictSchema):
    """`POST …/reports`."""

    pdf = fields.Nested(UploadSchema, required=True)
    snapshot = fields.Nested(UploadSchema, required=True)
    idempotencyKey = fields.String(required=True, validate=validate.Length(1, 200))


@attrs.frozen
class Reports:
    """Reports of runs. The note is stored last: a report is there whole or not at all."""

    store: ObjectStore
    addresses: Addresses
    inputs: Inputs

    async def attach(self, run: Run, request: dict[str, Any], principal: Principal) -> tuple[dict[str, Any], bool]:
        """The report of these uploads, and whether this call made it."""
        report_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run.run_id}/{request['idempotencyKey']}"))
        asked = {name: request[name]["uploadId"] for name in FILES}
        known = await self._note(run.run_id, report_id)
        if known is not None:
            if known["uploads"] != asked:
                raise ReportConflict()
            return known, False
        uploads = {name: await self.inputs.find_upload(asked[name], principal) for name in FILES}
        await self._check(run, uploads)
        files = {name: await self._copy(run.run_id, report_id, name, upload) for name, upload in uploads.items()}
        report = {
            "reportId": report_id,
            "runId": run.run_id,
            "userSupplied": True,
            "createdBy": principal.user_id,
            "createdAt": utc_now(),
            "uploads": asked,
            "files": files,
        }
        await self._write_note(run.run_id, report)
        return report, True

    async def page(self, run_id: str, *, limit: int, offset: int) -> dict[str, Any]:
        """Reports of a run, the latest first."""
        listed, _ = await self.store.list(run_reports(run_id), limit=10_000)
        notes = sorted((o for o in listed if o.name.endswith("/" + _NOTE)), key=lambda o: o.created_at, reverse=True)
        ids = [o.name.partition("/")[0] for o in notes[offset : offset + limit]]
        reports = [report for report_id in ids if (report := await self._note(run_id, report_id)) is not None]
        return {
            "runId": run_id,
            "reports": reports,
            "items": reports,
            "total": len(notes),
            "limit": limit,
            "offset": offset,
            "hasMore": offset + limit < len(notes),
        }

    async def get(self, run_id: str, report_id: str) -> dict[str, Any]:
        """One report. Raises `ReportNotFound`."""
        report = await self._note(run_id, report_id)
        if report is None:
            raise ReportNotFound(report_id=report_id[:64])
        return report

    async def receipt(self, run: Run, principal: Principal, report_id: str, file: str) -> dict[str, Any]:
        """Where to read a file of a report, and what it must turn out to be."""
        run_id, addresses = run.run_id, self.addresses.for_caller(run, principal)
        await self.get(run_id, report_id)
        info = await self.store.stat(run_reports(run_id), f"{report_id}/{file}")
        if info is None:
            raise ReportNotFound(report_id=report_id)
        return {
            "runId": run_id,
            "reportId": report_id,
            "file": file,
            "versionId": info.version,
            "url": await addresses.get(run_reports(run_id), info, RECEIPT_SECONDS),
            "expiresIn": RECEIPT_SECONDS,
            "sizeBytes": info.size,
            "checksum": f"sha256:{info.sha256}",
            "contentType": info.content_type,
        }

    async def _check(self, run: Run, uploads: dict[str, ObjectInfo]) -> None:
        for name, limit in FILES.items():
            if uploads[name].size > limit:
                raise ReportInvalid(reason=f"the {name} has more than {limit} bytes")
        head = b"".join([c async for c in self.store.read(UPLOADS, uploads["pdf"].name, length=5)])
        if head != b"%PDF-":
            raise ReportInvalid(reason="the pdf is not a PDF")
        data = b"".join([c async for c in self.store.read(UPLOADS, uploads["snapshot"].name)])
        try:
            snapshot = jsonio.loads_strict(data)
        except jsonio.JsonRefused as exc:
            raise ReportInvalid(reason=f"the snapshot is not JSON: {exc}") from None
        if not isinstance(snapshot, dict) or snapshot.get("runId", run.run_id) != run.run_id:
            raise ReportInvalid(reason="the snapshot is not one of this run")

    async def _copy(self, run_id: str, report_id: str, name: str, upload: ObjectInfo) -> dict[str, Any]:
        info = await self.store.copy(UPLOADS, upload.name, run_reports(run_id), f"{report_id}/{name}")
        return {"versionId": info.version, "sizeBytes": info.size, "checksum": f"sha256:{info.sha256}"}

    async def _note(self, run_id: str, report_id: str) -> dict[str, Any] | None:
        try:
            name = f"{uuid.UUID(report_id)}/{_NOTE}"
            data = b"".join([chunk async for chunk in self.store.read(run_reports(run_id), name)])
        except (ValueError, ObjectNotFound):
            return None
        note: dict[str, Any] = jsonio.loads_trusted(data)
        return note

    async def _write_note(self, run_id: str, report: dict[str, Any]) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield jsonio.dumps(report)

        info: dict[str, Any] = {"content_type": "application/json", "metadata": {}}
        await self.store.put(run_reports(run_id), f"{report['reportId']}/{_NOTE}", chunks(), None, info)
