"""Addresses of artifacts, lineage and reports."""

from __future__ import annotations

from contextlib import aclosing

from aiohttp import web

from devkit_api.describe import choice, describe, text, whole
from devkit_api.errors import (
    ArtifactNotFound,
    ObjectNotFound,
    ParameterInvalid,
    ReportNotFound,
    RunConflict,
    RunNotFound,
)
from devkit_api.httpio import attachment, choice_query, int_query, json_answer, read_body, send_stream, text_query
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Route
from devkit_api.runs.artifacts import Artifacts
from devkit_api.runs.models import Run
from devkit_api.runs.reports import FILES, Reports, ReportSchema
from devkit_api.runs.routes import RUNS

ARTIFACTS: web.AppKey[Artifacts] = web.AppKey("artifacts", Artifacts)
REPORTS: web.AppKey[Reports] = web.AppKey("reports", Reports)
_REPORT = ReportSchema()
_OBJECT = {"type": "object"}
_RECEIPT = {"type": "object", "description": "A short-lived address of the file, and what is known of it."}


@describe(answer=_OBJECT, errors=(RunNotFound,))
async def run_lineage(request: web.Request) -> web.Response:
    """`GET /v1/lineage/run/{run_id}`: inputs and outputs of a run."""
    return json_answer(await request.app[ARTIFACTS].lineage(await _run(request)))


@describe(
    query=(text("uri", "The `s3://` address of a file.", max_length=1024, required=True),),
    answer=_OBJECT,
    errors=(ObjectNotFound, RunNotFound),
)
async def artifact_lineage(request: web.Request) -> web.Response:
    """`GET /v1/lineage/artifact?uri`: the run that saved the file of this `s3://` address."""
    artifacts, text = request.app[ARTIFACTS], text_query(request, "uri", max_length=1024)
    if text is None:
        raise ParameterInvalid(name="uri", reason="it is missing", details={"expected": "the s3:// address of a file"})
    origin = await artifacts.origin(text)
    if origin is None:
        raise ObjectNotFound(key=text)
    run = await request.app[RUNS].get(origin[0], request[PRINCIPAL])
    artifact = await artifacts.described(run.run_id, origin[1])
    if artifact is None:
        raise ObjectNotFound(key=origin[1])
    return json_answer({"uri": text, "artifact": artifact, "producedBy": run.view()})


@describe(
    query=(
        text("lineageId", "One version, by its lineage id."),
        text("versionId", "One version; without both, the newest."),
    ),
    answer=_RECEIPT,
    errors=(RunNotFound, ArtifactNotFound),
)
async def artifact_download(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/artifacts/{artifact_id}/download?lineageId&versionId` (wire-contract C.5)."""
    run = await _run(request)
    receipt = await request.app[ARTIFACTS].receipt(
        run,
        request[PRINCIPAL],
        request.match_info["artifact_id"],
        text_query(request, "lineageId"),
        text_query(request, "versionId"),
    )
    return json_answer(receipt)


@describe(answer={"type": "string", "format": "binary"}, media="application/zip", errors=(RunNotFound, ObjectNotFound))
async def artifacts_zip(request: web.Request) -> web.StreamResponse:
    """`GET /v1/module-runs/{run_id}/artifacts.zip`: every file the run saved, streamed."""
    run = await _run(request)
    answer = web.StreamResponse(headers={"Content-Disposition": attachment(f"{run.run_id}.zip")})
    answer.content_type = "application/zip"
    async with aclosing(request.app[ARTIFACTS].archive(run.run_id)) as chunks:
        return await send_stream(request, answer, chunks)


@describe(
    query=(
        whole("limit", "Reports on a page.", low=1, high=100, default=20),
        whole("offset", "Reports to pass over.", low=0, high=1_000_000, default=0),
    ),
    answer=_OBJECT,
    errors=(RunNotFound,),
)
async def list_reports(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/reports?limit&offset`."""
    run = await _run(request)
    limit = int_query(request, "limit", 20, low=1, high=100)
    offset = int_query(request, "offset", 0, low=0, high=1_000_000)
    return json_answer(await request.app[REPORTS].page(run.run_id, limit=limit, offset=offset))


@describe(answer=_OBJECT, errors=(RunNotFound, ReportNotFound))
async def get_report(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/reports/{report_id}`."""
    run = await _run(request)
    return json_answer(await request.app[REPORTS].get(run.run_id, request.match_info["report_id"]))


@describe(
    body=ReportSchema,
    answer=_OBJECT,
    status=201,
    answers={200: "It was attached before with this key."},
    errors=(RunNotFound, RunConflict, ObjectNotFound),
)
async def attach_report(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/reports`: two uploads become a report, once per key."""
    run = await _run(request)
    body = await read_body(request, _REPORT)
    report, created = await request.app[REPORTS].attach(run, body, request[PRINCIPAL])
    return json_answer(report, status=201 if created else 200)


@describe(
    query=(choice("file", "Which of the two.", *FILES, default="pdf"),),
    answer=_RECEIPT,
    errors=(RunNotFound, ReportNotFound),
)
async def download_report(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/reports/{report_id}/download?file=pdf|snapshot`."""
    run = await _run(request)
    file = choice_query(request, "file", "pdf", {name: name for name in FILES})
    report_id = request.match_info["report_id"]
    return json_answer(await request.app[REPORTS].receipt(run, request[PRINCIPAL], report_id, file))


async def _run(request: web.Request) -> Run:
    return await request.app[RUNS].get(request.match_info["run_id"], request[PRINCIPAL])


_RUN = "/v1/module-runs/{run_id}"
ROUTES = [
    Route("GET", "/v1/lineage/run/{run_id}", run_lineage, "runs:read"),
    Route("GET", "/v1/lineage/artifact", artifact_lineage, "runs:list"),
    Route("GET", _RUN + "/artifacts/{artifact_id}/download", artifact_download, "runs:read"),
    Route("GET", _RUN + "/artifacts.zip", artifacts_zip, "runs:read", stream=True),
    Route("GET", _RUN + "/reports", list_reports, "runs:read"),
    Route("POST", _RUN + "/reports", attach_report, "reports:write"),
    Route("GET", _RUN + "/reports/{report_id}", get_report, "runs:read"),
    Route("GET", _RUN + "/reports/{report_id}/download", download_report, "runs:read"),
]
