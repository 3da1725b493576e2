"""Addresses a runner elsewhere uses: refresh, documents of the run, and the end of its token."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from devkit_api import jsonio
from devkit_api.describe import describe
from devkit_api.errors import (
    BodyInvalid,
    BodyTooLarge,
    ObjectNotFound,
    RouteNotFound,
    RunConflict,
    RunNotFound,
    SignatureInvalid,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Body, Route
from devkit_api.runs.links import PARTS, SECONDS
from devkit_api.runs.models import Run
from devkit_api.runs.routes import LINKS, RUNS
from devkit_api.runs.schemas import RevokeSchema

_REVOKE = RevokeSchema()
_OBJECT = {"type": "object"}


@describe(answer=_OBJECT, errors=(RunNotFound, RunConflict))
async def refresh_urls(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/urls`: fresh addresses for the runner (wire-contract C.7)."""
    run = await request.app[RUNS].callbacks.attach(request.match_info["run_id"])
    links = request.app[LINKS].for_runner(run)
    return json_answer({"runId": run.run_id, "status": run.status.value, "links": links, "expiresIn": SECONDS})


@describe(body=RevokeSchema, body_optional=True, example={}, answer=_OBJECT, errors=(RunNotFound,))
async def revoke(request: web.Request) -> web.Response:
    """`POST /v1/module-runs/{run_id}/revoke`: the run's token is refused from now on."""
    await read_body(request, _REVOKE, optional=True)
    run = await request.app[RUNS].revoke(request.match_info["run_id"], request[PRINCIPAL])
    return json_answer({"runId": run.run_id, "status": run.status.value, "revoked": True})


@describe(answer=_OBJECT, errors=(RunNotFound, RunConflict, ObjectNotFound, SignatureInvalid))
async def read_part(request: web.Request) -> web.Response:
    """`GET /v1/run-links/{run_id}/{part}` with a signed address."""
    run, part = await _checked(request)
    if part == "context":
        # It holds the run's token, so only who works on the run may have it.
        run = await request.app[RUNS].callbacks.attach(run.run_id)
    return json_answer(await _document(request, run, part))


@describe(body=_OBJECT, answer=_OBJECT, errors=(RunNotFound, RunConflict, SignatureInvalid))
async def write_part(request: web.Request) -> web.Response:
    """`PUT /v1/run-links/{run_id}/{part}` with a signed address; the last one counts."""
    run, part = await _checked(request)
    value = await _read(request)
    await request.app[RUNS].callbacks.take_part(run.run_id, part, value)
    return json_answer({"runId": run.run_id, "stored": part})


async def _checked(request: web.Request) -> tuple[Run, str]:
    run_id, part = request.match_info["run_id"], request.match_info["part"]
    if part not in PARTS:
        raise RouteNotFound(method=request.method, path=request.path[:200])
    request.app[LINKS].check(request.method, run_id, part, request.query)
    return await request.app[RUNS].get(run_id), part


async def _document(request: web.Request, run: Run, part: str) -> Any:
    runs = request.app[RUNS]
    if part == "payload":
        return run.parameters
    if part == "context":
        return runs.orders.make(run)[0].context
    value = run.summary if part == "summary" else await runs.output(run)
    if value is None:
        raise ObjectNotFound(key=part, hint="The run has not written it.")
    return value


async def _read(request: web.Request) -> dict[str, Any]:
    limit = request.app[RUNS].orders.bounds.output_bytes
    chunks, size = [], 0
    async for chunk in request.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
        chunks.append(chunk)
    try:
        value = jsonio.loads_lenient(b"".join(chunks))
    except jsonio.JsonRefused as exc:
        raise BodyInvalid(reason=str(exc)) from None
    if not isinstance(value, dict):
        raise BodyInvalid(reason="it is not an object")
    return value


ROUTES = [
    Route("POST", "/v1/module-runs/{run_id}/urls", refresh_urls, "runs:callback"),
    Route("POST", "/v1/module-runs/{run_id}/revoke", revoke, "runs:cancel"),
    Route("GET", "/v1/run-links/{run_id}/{part}", read_part, "objects:signed"),
    Route("PUT", "/v1/run-links/{run_id}/{part}", write_part, "objects:signed", stream=True, body=Body.OUTPUT),
]
