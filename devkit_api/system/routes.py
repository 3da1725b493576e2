"""Addresses of the devkit itself."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from time import monotonic

from aiohttp import web

from devkit_api import __version__, jsonio
from devkit_api.describe import describe
from devkit_api.errors import CATALOGUE, ErrorCodeUnknown
from devkit_api.httpio import json_answer, kept_answer
from devkit_api.ids import utc_now
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.modules.routes import REGISTRY
from devkit_api.routing import Route
from devkit_api.runs.failures import FAILURES
from devkit_api.runs.routes import RUNS
from devkit_api.security.principals import Kind
from devkit_api.system.answers import (
    ErrorListSchema,
    ErrorPageSchema,
    HealthSchema,
    IndexSchema,
    MeSchema,
    ReadySchema,
    ResetSchema,
    VersionSchema,
)
from devkit_api.system.health import Health, ready_body
from devkit_api.system.metrics import METRICS

HEALTH: web.AppKey[Health] = web.AppKey("health", Health)
RESET: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("reset")
_STARTED = monotonic()
RUN_REMEDY = "Read the run's log (GET /v1/module-runs/{run_id}/logs); `error.details` holds what is known besides."


@describe(answer=IndexSchema)
async def index(request: web.Request) -> web.Response:
    """`GET /`: what this is and where things are."""
    return json_answer(
        {
            "service": "hla-compass-devkit",
            "version": __version__,
            "links": {
                "ready": "/v1/system/ready",
                "health": "/v1/system/health",
                "version": "/v1/system/version",
                "modules": "/v1/modules",
                "runs": "/v1/module-runs",
                "errors": "/docs/errors",
                "docs": "/docs",
                "openapi": "/docs/openapi.json",
                "metrics": "/metrics",
                "catalogs": "/v1/data-catalogs",
            },
        }
    )


@describe(answer=VersionSchema)
async def version(_request: web.Request) -> web.Response:
    """`GET /v1/system/version` (wire-contract A.1)."""
    return json_answer(
        {"api_version": "6.0.2", "devkit_version": __version__, "features": {"scientific_typed_post": True}}
    )


@describe(answer=ReadySchema, answers={503: "Something is missing; `missing` says what."})
async def ready(request: web.Request) -> web.Response:
    """`GET /v1/system/ready`: 200, or 503 with what is missing."""
    missing = await request.app[HEALTH].missing()
    headers = {"Retry-After": "1"} if missing else None
    return json_answer(ready_body(missing, utc_now()), status=503 if missing else 200, headers=headers)


@describe(answer=HealthSchema)
async def health(request: web.Request) -> web.Response:
    """`GET /v1/system/health`: always 200 while the server answers, with what each part says and counts from memory."""
    runs = request.app[RUNS]
    services = await request.app[HEALTH].services()
    return json_answer(
        {
            "status": "ok" if all(state == "ok" for state in services.values()) else "degraded",
            "version": __version__,
            "uptimeSeconds": round(monotonic() - _STARTED, 1),
            "services": services,
            "modules": request.app[REGISTRY].count,
            "runs": runs.repository.counts(),
            "queue": {"waiting": runs.supervisor.queued, "executing": runs.supervisor.executing},
            "details": {name: detail() for name, detail in request.app[HEALTH].details.items()},
            "process": {"pid": os.getpid()},
            "timestamp": utc_now(),
        }
    )


@describe(answer={"type": "string"}, media="text/plain")
async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: numbers in the text format of Prometheus."""
    return web.Response(body=request.app[METRICS].page(), content_type="text/plain", charset="utf-8")


@describe(answer=MeSchema)
async def whoami(request: web.Request) -> web.Response:
    """`GET /v1/auth/me` (wire-contract A.2)."""
    principal = request[PRINCIPAL]
    kinds = {Kind.API_KEY: "developer_api_key", Kind.SESSION: "session", Kind.RUN_TOKEN: "run_token"}
    organization = {"id": principal.organization_id, "name": "Local devkit", "is_primary": True}
    data = {
        "credentialType": kinds.get(principal.kind, principal.kind.value),
        "role": principal.role.value,
        "organizationId": principal.organization_id,
        "runId": principal.run_id,
        "user": {
            "id": principal.user_id,
            "email": "developer@devkit.local",
            "organization_id": principal.organization_id,
            "organizations": [organization],
        },
    }
    return json_answer({"success": True, "data": data})


@describe(answer=ErrorPageSchema, answers={304: "It has not changed."}, errors=(ErrorCodeUnknown,))
async def explain_error(request: web.Request) -> web.Response:
    """`GET /docs/errors/{code}`: what an error code means and what to do; `error.docs` points here."""
    code = request.match_info["code"]
    known = CATALOGUE.get(code)
    if known is not None:
        meaning = (known.__doc__ or "").strip()
        body = {
            "code": code,
            "status": known.status,
            "meaning": meaning,
            "remedy": known.hint,
            "example": known.example,
        }
        return kept_answer(request, jsonio.dumps(body))
    if code in FAILURES:
        body = {"code": code, "status": None, "meaning": FAILURES[code], "remedy": RUN_REMEDY, "example": ""}
        return kept_answer(request, jsonio.dumps(body))
    raise ErrorCodeUnknown(code=code[:100])


@describe(answer=ErrorListSchema, answers={304: "It has not changed."})
async def list_errors(request: web.Request) -> web.Response:
    """`GET /docs/errors`: every code, of answers and of runs."""
    return kept_answer(request, jsonio.dumps({"errors": sorted(CATALOGUE), "runErrors": sorted(FAILURES)}))


@describe(answer=ResetSchema)
async def reset(request: web.Request) -> web.Response:
    """`POST /v1/devkit/reset`: state back to empty; settings, and what the watched directory holds, stay."""
    await request.app[RESET]()
    return json_answer({"status": "reset"})


ROUTES = [
    Route("GET", "/", index, "system:read"),
    Route("GET", "/v1/system/version", version, "system:read"),
    Route("GET", "/v1/system/ready", ready, "system:read"),
    Route("GET", "/v1/system/health", health, "system:read"),
    Route("GET", "/metrics", metrics, "system:metrics"),
    Route("GET", "/docs/errors", list_errors, "system:read"),
    Route("GET", "/docs/errors/{code}", explain_error, "system:read"),
    Route("GET", "/v1/auth/me", whoami, "identity:read"),
    Route("POST", "/v1/devkit/reset", reset, "system:reset"),
]
