"""Addresses of ingestion jobs (wire-contract F.2)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.catalogs.control import answers
from devkit_api.catalogs.control.ingestions import IngestionService
from devkit_api.catalogs.control.requests import CATALOG_ERRORS, IDEMPOTENCY_KEY, catalog_of, same_key
from devkit_api.catalogs.control.schemas import IngestRetrySchema, IngestSchema, StateVersionSchema
from devkit_api.describe import describe
from devkit_api.errors import (
    CatalogReadOnly,
    CatalogsOff,
    IdempotencyKeyReused,
    IngestionInvalid,
    IngestionNotFound,
    QueryParameterInvalid,
    StateConflict,
    VersionExists,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.routing import Route

INGESTIONS: web.AppKey[IngestionService] = web.AppKey("catalog_ingestions", IngestionService)

_INGEST, _RETRY, _STATE = IngestSchema(), IngestRetrySchema(), StateVersionSchema()
_ERRORS = (IngestionNotFound, CatalogsOff, QueryParameterInvalid)


@describe(
    headers=(IDEMPOTENCY_KEY,),
    body=IngestSchema,
    example={
        "sourceManifest": [
            {"sourceUri": "s3://hla-compass-devkit/~catalog-imports/an-upload/peptides.csv", "targetTable": "peptides"}
        ],
        "mode": "replace",
        "idempotencyKey": "first-version",
        "versionLabel": "2026-03",
    },
    answer=answers.IngestionSchema,
    status=202,
    errors=(*CATALOG_ERRORS, CatalogReadOnly, IngestionInvalid, VersionExists, IdempotencyKeyReused),
)
async def submit_ingestion(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs/{catalog_id}/ingest`: make a version of claimed uploads."""
    body = await read_body(request, _INGEST)
    same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[INGESTIONS].submit(catalog_of(request), body), status=202)


@describe(answer=answers.IngestionSchema, errors=_ERRORS)
async def get_ingestion(request: web.Request) -> web.Response:
    """`GET …/ingestions/{job_id}`: how far a job is."""
    return json_answer(await request.app[INGESTIONS].get(*_job(request)))


@describe(
    body=StateVersionSchema,
    example={"stateVersion": 2, "reason": "the wrong file"},
    answer=answers.IngestionSchema,
    errors=(*_ERRORS, StateConflict),
)
async def cancel_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/cancel`: end a job that has not ended."""
    body = await read_body(request, _STATE)
    return json_answer(await request.app[INGESTIONS].cancel(*_job(request), body))


@describe(
    headers=(IDEMPOTENCY_KEY,),
    body=IngestRetrySchema,
    example={"stateVersion": 3, "idempotencyKey": "first-version-again"},
    answer=answers.IngestionSchema,
    status=202,
    errors=(*_ERRORS, StateConflict, IdempotencyKeyReused),
)
async def retry_ingestion(request: web.Request) -> web.Response:
    """`POST …/ingestions/{job_id}/retry`: try a failed job again."""
    body = await read_body(request, _RETRY)
    same_key(request, body["idempotencyKey"])
    return json_answer(await request.app[INGESTIONS].retry(*_job(request), body), status=202)


def _job(request: web.Request) -> tuple[str, str]:
    return catalog_of(request), request.match_info["job_id"]


_CATALOG = "/v1/data-catalogs/{catalog_id}"
_JOB = _CATALOG + "/ingestions/{job_id}"
ROUTES = [
    Route("POST", _CATALOG + "/ingest", submit_ingestion, "catalogs:admin"),
    Route("GET", _JOB, get_ingestion, "catalogs:admin"),
    Route("POST", _JOB + "/cancel", cancel_ingestion, "catalogs:admin"),
    Route("POST", _JOB + "/retry", retry_ingestion, "catalogs:admin"),
]
