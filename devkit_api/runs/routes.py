"""Addresses of runs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from aiohttp import web

from devkit_api import deprecation, jsonio, sdk_text
from devkit_api.describe import EVENTS, Parameter, choice, describe, text, whole
from devkit_api.errors import (
    Forbidden,
    InputInvalid,
    ModuleNotFound,
    ModuleSuspended,
    ModuleUnsupported,
    OutputDamaged,
    ParameterInvalid,
    PlanInvalid,
    QueueFull,
    RequestInvalid,
    RunConflict,
    RunNotFinished,
    RunNotFound,
)
from devkit_api.httpio import choice_query, int_query, json_answer, read_body, text_query
from devkit_api.middleware import audit
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Route
from devkit_api.runs.answers import (
    EVENT_STREAM,
    HeartbeatAnswerSchema,
    LogPageSchema,
    PlanSchema,
    RunPageSchema,
    RunSchema,
)
from devkit_api.runs.events import StreamEvent
from devkit_api.runs.links import RunLinks
from devkit_api.runs.models import Run, RunStatus
from devkit_api.runs.schemas import CompleteSchema, HeartbeatSchema, PrepareSchema, StartSchema
from devkit_api.runs.service import RunService
from devkit_api.schemas import field_error, pagination

RUNS: web.AppKey[RunService] = web.AppKey("runs", RunService)
LINKS: web.AppKey[RunLinks] = web.AppKey("run_links", RunLinks)
INTERACTIVE_TIMEOUT: web.AppKey[float] = web.AppKey("interactive_timeout", float)

_START, _PREPARE, _HEARTBEAT, _COMPLETE = StartSchema(), PrepareSchema(), HeartbeatSchema(), CompleteSchema()
_NEWEST_FIRST = {"desc": True, "asc": False}
_LOG_LIMIT = 10_000
SLOW_READER_SECONDS = 30
_START_ERRORS = (ModuleNotFound, ModuleSuspended, ModuleUnsupported, InputInvalid, Forbidden, QueueFull)
_ORDER = choice("order", "Of creation.", "asc", "desc")
_LINKS = {
    name: {"operationId": operation, "parameters": {"run_id": "$response.body#/runId"}}
    for name, operation in (
        ("run", "get_v1_module_runs_run_id"),
        ("logs", "get_v1_module_runs_run_id_logs"),
        ("result", "get_v1_module_runs_run_id_result"),
        ("cancel", "post_v1_module_runs_run_id_cancel"),
    )
}


@describe(
    body=StartSchema,
    example={"moduleId": "peptide-counter", "parameters": {}, "mode": "async"},
    answer=RunSchema,
    status=202,
    answers={200: "It has ended already: the run with its output, or, for mode `interactive`, the output itself."},
    errors=(*_START_ERRORS, PlanInvalid),
    links=_LINKS,
)
async def start_run(request: web.Request) -> web.Response:
    """`POST /v1/module-runs` (wire-contract C.2). Without `mode` the answer is the run document."""
    runs = request.app[RUNS]
    body = await read_body(request, _START)
    started = await runs.admission.start(body, request[PRINCIPAL])
    run, mode = started.run, body.get("mode")
    audit.about(request, run_id=run.run_id, module_id=run.module_id)
    if run.is_external:
        token = {"token": started.token, "endpoint": runs.orders.address.base_url} if started.token else {}
        return json_answer({**run.view(), **token}, status=202)
    if mode in {"async", "workflow"}:
        return json_answer(run.view(), status=202)
    run = await runs.watch.until_finished(run.run_id, request.app[INTERACTIVE_TIMEOUT]) or run
    if not run.is_terminal:
        return json_answer(run.view(), status=202)
    output = await runs.output(run)
    if mode is None:
        return json_answer({**run.view(), "result": output})
    return json_answer({**(output or {}), "_run": {"runId": run.run_id, "status": run.status.value}})


@describe(body=PrepareSchema, example={"parameters": {}, "mode": "async"}, answer=PlanSchema, errors=_START_ERRORS)
async def prepare_run(request: web.Request) -> web.Response:
    """`POST /v1/modules/{module_id}/quote` (wire-contract B.2)."""
    body = await read_body(request, _PREPARE)
    admission, module_id = request.app[RUNS].admission, request.match_info["module_id"]
    return json_answer(await admission.prepare(module_id, body, request[PRINCIPAL]))


@describe(
    query=(
        whole("page", "Page, from 1.", low=1, high=10_000_000, default=1),
        whole("limit", "Runs on a page.", low=1, high=1000, default=20),
        _ORDER,
        text("moduleId", "Only runs of this module."),
        choice("status", "Only runs in this state.", *RunStatus),
    ),
    answer=RunPageSchema,
)
async def list_runs(request: web.Request) -> web.Response:
    """`GET /v1/module-runs?page&limit&order&moduleId&status`."""
    page = int_query(request, "page", 1, low=1, high=10_000_000)
    limit = int_query(request, "limit", 20, low=1, high=1000)
    runs, total = await request.app[RUNS].page(
        request[PRINCIPAL],
        page=page,
        limit=limit,
        newest_first=choice_query(request, "order", True, _NEWEST_FIRST),
        module_id=_module_filter(request),
        status=choice_query(request, "status", None, {status.value: status for status in RunStatus}),
    )
    items = [run.view() for run in runs]
    return json_answer({"runs": items, "pagination": pagination(page=page, limit=limit, total=total)})


def _module_filter(request: web.Request) -> str | None:
    if "module_id" in request.query:
        deprecation.note(request, ["module_id"])
    return text_query(request, "moduleId") or text_query(request, "module_id")


@describe(answer=RunSchema, errors=(RunNotFound,))
async def get_run(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}`."""
    run = await _run(request)
    view = {**run.view(), "links": request.app[LINKS].for_reader(run)}
    if view["error"] and sdk_text.is_sdk(request):
        view["error"] = _soften(view["error"])
    return json_answer(view)


@describe(answer=RunSchema, errors=(RunNotFound,))
async def cancel_run(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/cancel`: idempotent; an ended run is answered as it is."""
    return json_answer((await request.app[RUNS].cancel(request.match_info["run_id"], request[PRINCIPAL])).view())


@describe(
    answer={"type": "object", "description": "What the module returned."},
    errors=(RunNotFound, RunNotFinished, OutputDamaged),
)
async def get_result(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/result` (wire-contract C.4)."""
    return json_answer(await request.app[RUNS].result(request.match_info["run_id"], request[PRINCIPAL]))


@describe(
    query=(
        whole("limit", "Lines on a page.", low=1, high=_LOG_LIMIT, default=1000),
        text("nextToken", "`nextForwardToken` of the page before.", max_length=40),
        _ORDER,
    ),
    answer=LogPageSchema,
    errors=(RunNotFound,),
)
async def get_logs(request: web.Request) -> web.Response:
    """`GET /v1/module-runs/{run_id}/logs?limit&nextToken&order` (wire-contract C.6)."""
    run_id = request.match_info["run_id"]
    token = request.query.get("nextToken") or None
    if token is not None and len(token) > 40:
        raise ParameterInvalid(name="nextToken", reason="it is not one of ours")
    page = await request.app[RUNS].read_logs(
        run_id,
        request[PRINCIPAL],
        token=token,
        limit=int_query(request, "limit", 1000, low=1, high=_LOG_LIMIT),
        newest_first=choice_query(request, "order", False, _NEWEST_FIRST),
    )
    events = list(map(_soften, page.events)) if sdk_text.is_sdk(request) else page.events
    # Only a reader's first page says it: the SDK's `runs logs --follow` prints it as often as it comes.
    note = {"message": page.note} if page.note and token is None else {}
    return json_answer({"runId": run_id, "events": events, "nextForwardToken": page.next_token, **note})


@describe(
    query=(
        Parameter("Last-Event-ID", {"type": "string", "pattern": "^[0-9]{1,15}$"}, "The last id seen.", where="header"),
    ),
    answer=EVENT_STREAM,
    media=EVENTS,
    errors=(RunNotFound,),
)
async def get_events(request: web.Request) -> web.StreamResponse:
    """`GET /v1/module-runs/{run_id}/events`: server-sent events; `Last-Event-ID` resumes."""
    last = request.headers.get("Last-Event-ID") or "0"
    if not last.isascii() or not last.isdigit() or len(last) > 15:
        raise ParameterInvalid(name="Last-Event-ID", reason="it is not one of ours")
    events = await request.app[RUNS].follow(request.match_info["run_id"], request[PRINCIPAL], int(last))
    response = web.StreamResponse(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    async with aclosing(events) as opened:
        async for event in opened:
            try:
                await asyncio.wait_for(response.write(_sse(event)), SLOW_READER_SECONDS)
            except ConnectionError:
                break
            except TimeoutError:
                # Too slow: nothing more can be written, not even an end. It may come back with Last-Event-ID.
                if request.transport is not None:
                    request.transport.abort()
                break
    return response


def _sse(event: StreamEvent) -> bytes:
    if event.kind == "keep-alive":
        return b": keep-alive\n\n"
    return b"event: %b\nid: %d\ndata: %b\n\n" % (event.kind.encode(), event.position, jsonio.dumps(event.data))


@describe(
    body=HeartbeatSchema,
    body_optional=True,
    example={"progress": 40, "progressMessage": "Scoring"},
    answer=HeartbeatAnswerSchema,
    errors=(RunNotFound, RunConflict),
)
async def heartbeat(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/heartbeat` (wire-contract C.7)."""
    body = await read_body(request, _HEARTBEAT, optional=True)
    _check_run_id(request, body)
    run = await request.app[RUNS].callbacks.heartbeat(request.match_info["run_id"], body)
    return json_answer({"runId": run.run_id, "status": run.status.value, "heartbeat": run.heartbeat_at})


@describe(
    body=CompleteSchema,
    example={"status": "completed", "result": {"status": "success", "results": {"peptides": 59}}},
    answer=RunSchema,
    errors=(RunNotFound, RunConflict),
)
async def complete(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/complete` (wire-contract C.7), for external modules."""
    body = await read_body(request, _COMPLETE)
    _check_run_id(request, body)
    return json_answer((await request.app[RUNS].callbacks.complete(request.match_info["run_id"], body)).view())


def _check_run_id(request: web.Request, body: dict[str, Any]) -> None:
    """A run named in the body as well has to be the one of the address."""
    if body.pop("runId", request.match_info["run_id"]) != request.match_info["run_id"]:
        finding = {"path": "/runId", "message": "is not the run of the address", "expected": "the same run, or nothing"}
        raise field_error(RequestInvalid, [finding])


async def _run(request: web.Request) -> Run:
    return await request.app[RUNS].get(request.match_info["run_id"], request[PRINCIPAL])


def _soften(said: dict[str, Any]) -> dict[str, Any]:
    """The official CLI prints a `message` as Rich markup and stops at an unknown closing tag: escape such text.

    The text as it was stays in `rawMessage`.
    """
    message = said.get("message", "")
    escaped = sdk_text.plain(message)
    return said if escaped == message else {**said, "message": escaped, "rawMessage": message}


ROUTES = [
    Route("POST", "/v1/modules/{module_id}/quote", prepare_run, "runs:start"),
    Route("POST", "/v1/module-runs", start_run, "runs:start"),
    Route("GET", "/v1/module-runs", list_runs, "runs:list"),
    Route("GET", "/v1/module-runs/{run_id}", get_run, "runs:read"),
    Route("GET", "/v1/module-runs/{run_id}/result", get_result, "runs:read"),
    Route("GET", "/v1/module-runs/{run_id}/logs", get_logs, "runs:read"),
    Route("GET", "/v1/module-runs/{run_id}/events", get_events, "runs:read", stream=True),
    Route("POST", "/v1/module-runs/{run_id}/cancel", cancel_run, "runs:cancel"),
    Route("POST", "/v1/module-runs/{run_id}/heartbeat", heartbeat, "runs:callback"),
    Route("POST", "/v1/module-runs/{run_id}/complete", complete, "runs:callback"),
]
