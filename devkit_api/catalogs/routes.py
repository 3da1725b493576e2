"""Addresses of catalogs: discovery and typed reads (wire-contract F.1, F.3, F.4, F.7, F.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from devkit_api.catalogs import answers, filters, reads, science
from devkit_api.catalogs.entities import ENTITIES
from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.service import CatalogService
from devkit_api.catalogs.similarity import SimilaritySchema, rank
from devkit_api.catalogs.sqldoor import SqlLimits, SqlQuerySchema, run_query
from devkit_api.describe import Parameter, choice, describe, text
from devkit_api.errors import (
    CatalogEntityNotFound,
    SqlInvalid,
    SqlRefused,
    SqlResultTooLarge,
    SqlTimeout,
    StorageVersionUnavailable,
)
from devkit_api.httpio import json_answer, json_bytes, read_body, read_json, while_connected
from devkit_api.routing import Handler, Route

SQL_LIMITS: web.AppKey[SqlLimits] = web.AppKey("sql_limits", SqlLimits)
CATALOGS: web.AppKey[CatalogService] = web.AppKey("catalogs", CatalogService)

_SIMILARITY, _SQL = SimilaritySchema(), SqlQuerySchema()
_ERRORS = answers.CATALOG_ERRORS
_TERM = Parameter("search_term", {"type": "string", "minLength": 1, "maxLength": 500}, "What to look for.", True)


@describe(answer=answers.CatalogListSchema, errors=_ERRORS)
async def list_catalogs(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs`."""
    return json_answer({"catalogs": await request.app[CATALOGS].views()})


def typed_read(name: str) -> Handler:
    """`GET` with a query and `POST` with a body, of one entity."""
    entity = ENTITIES[name]

    @describe(
        query=answers.parameters(entity),
        body=answers.body_shape(entity),
        example={"limit": 5},
        answer=answers.page_shape(entity),
        errors=_ERRORS,
    )
    async def handler(request: web.Request) -> web.Response:
        """One page of a typed read: filters, order and window (wire-contract F.3)."""
        raw = await read_json(request) if request.method == "POST" else _once(request)
        if not isinstance(raw, dict):
            filters.refuse("body", "it must be one JSON object", entity.filters)
        # Unusual spellings of alleles are looked up in tables that take seconds to load the first time.
        query = await asyncio.to_thread(reads.parse, entity, raw) if "hla_allele" in raw else reads.parse(entity, raw)
        service = request.app[CATALOGS]
        scope = await service.resolve(*_pair(request), query.version)
        return json_answer(await reads.read(service, entity, query, scope))

    return handler


@describe(
    query=(
        choice("resolution", "How much of a name.", *science.RESOLUTIONS, default="2-digit"),
        text("locus", "Only this locus.", max_length=500, example="A"),
    ),
    answer=answers.AllelesSchema,
    errors=_ERRORS,
)
async def hla_alleles(request: web.Request) -> web.Response:
    """`GET {data}/hla-alleles?resolution&locus`."""
    raw = _only(request, "resolution", "locus")
    resolution = filters.choice(*science.RESOLUTIONS)("resolution", raw.get("resolution", "2-digit"))
    locus = filters.text("locus", raw["locus"]).upper() if "locus" in raw else None
    if locus is not None and not locus.startswith("HLA-"):
        locus = f"HLA-{locus}"
    found = await science.alleles(_pool(request), await _current(request), resolution, locus)
    return json_answer({"alleles": found, "count": len(found)})


@describe(
    query=(text("population", "No population is known here: asking for one answers nothing.", max_length=500),),
    answer=answers.FrequenciesSchema,
    errors=_ERRORS,
)
async def hla_frequencies(request: web.Request) -> web.Response:
    """`GET {data}/hla-frequencies?population`."""
    raw = _only(request, "population")
    population = filters.text("population", raw["population"]) if "population" in raw else None
    found = await science.frequencies(_pool(request), await _current(request), population)
    return json_answer({"frequencies": found, "basis": "samples of the catalog's current version"})


@describe(answer=answers.CoverageSchema, errors=(*_ERRORS, CatalogEntityNotFound))
async def protein_coverage(request: web.Request) -> web.Response:
    """`GET {data}/proteins/{protein}/coverage`."""
    _only(request)
    return json_answer(
        await science.coverage(_pool(request), await _current(request), request.match_info["protein"][:200])
    )


@describe(
    query=(
        choice("search_type", "What the term names.", *science.SEARCH_TYPES, default="peptide"),
        _TERM,
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 10**9, "default": 5000}, "Rows at most."),
    ),
    answer=answers.RowsSchema,
    errors=_ERRORS,
)
async def sample_intensities(request: web.Request) -> web.Response:
    """`GET {data}/sample-intensities?search_type&search_term&limit`."""
    raw = _only(request, "search_type", "search_term", "limit")
    search_type = filters.choice(*science.SEARCH_TYPES)("search_type", raw.get("search_type", "peptide"))
    term = filters.text("search_term", raw.get("search_term"))
    limit = min(filters.whole(1, 10**9)("limit", raw.get("limit", 5000)), science.MAX_INTENSITIES)
    found = await science.intensities(_pool(request), await _current(request), search_type, term, limit)
    return json_answer({"data": found, "count": len(found)})


@describe(query=(_TERM,), answer=answers.RowsSchema, errors=_ERRORS)
async def peptide_positions(request: web.Request) -> web.Response:
    """`GET {data}/peptide-positions?search_term`."""
    raw = _only(request, "search_term")
    term = filters.text("search_term", raw.get("search_term"))
    found = await science.positions(_pool(request), await _current(request), term)
    return json_answer({"data": found, "count": len(found)})


@describe(
    body=SimilaritySchema,
    example={"length": 2, "amino_acids": ["A", "L"], "matrix": [[0.1, 0.9], [0.5, 0.5]], "top_n": 5},
    answer=answers.RankingSchema,
    errors=_ERRORS,
)
async def peptide_similarity(request: web.Request) -> web.Response:
    """`POST {data}/peptide-similarity`."""
    body = await read_body(request, _SIMILARITY)
    return json_answer(await rank(_pool(request), await _current(request), body))


@describe(
    body=SqlQuerySchema,
    example={"sql": "SELECT count(*) AS n FROM peptides WHERE length = %s", "params": [9]},
    answer=answers.SqlRowsSchema,
    errors=(*_ERRORS, SqlInvalid, SqlRefused, SqlResultTooLarge, SqlTimeout),
)
async def run_sql(request: web.Request) -> web.Response:
    """`POST {data}/query` (wire-contract F.5). A caller who goes away stops the query."""
    body = await read_body(request, _SQL)
    service = request.app[CATALOGS]
    scope = await service.resolve(*_pair(request), body.get("version"))
    query = run_query(service.database.reader, scope, request.app[SQL_LIMITS], body["sql"], body["params"])
    return json_bytes(await while_connected(request, query))


@describe(errors=(*_ERRORS, StorageVersionUnavailable))
async def storage_token(request: web.Request) -> web.Response:
    """`GET {data}/storage/token` (wire-contract F.7): always refused, and the SDK reads over the API instead."""
    await _current(request)
    raise StorageVersionUnavailable


def _pair(request: web.Request) -> tuple[str, str]:
    return request.match_info["provider"], request.match_info["catalog"]


async def _current(request: web.Request) -> Scope:
    """These reads take no version (wire-contract F.4): the current one."""
    return await request.app[CATALOGS].resolve(*_pair(request))


def _pool(request: web.Request) -> Any:
    return request.app[CATALOGS].database.owner


def _only(request: web.Request, *allowed: str) -> Mapping[str, str]:
    """The query, with nothing in it but what the address takes."""
    raw = _once(request)
    for name in raw:
        if name not in allowed:
            filters.refuse(name, "there is no such parameter", allowed or ("(none)",))
    return raw


def _once(request: web.Request) -> dict[str, str]:
    """Query parameters; one given twice is refused, as one of the values would be lost."""
    raw = dict(request.query)
    for name in raw:
        if len(request.query.getall(name)) > 1:
            filters.refuse(name, "it is given twice")
    return raw


_DATA = "/v1/data/{provider}/{catalog}"
ROUTES = [
    Route("GET", "/v1/data-catalogs", list_catalogs, "data:read"),
    *(
        Route(method, f"{_DATA}/{name}", typed_read(name), "data:read")
        for name in ENTITIES
        for method in ("GET", "POST")
    ),
    Route("GET", f"{_DATA}/hla-alleles", hla_alleles, "data:read"),
    Route("GET", f"{_DATA}/hla-frequencies", hla_frequencies, "data:read"),
    Route("GET", f"{_DATA}/proteins/{{protein}}/coverage", protein_coverage, "data:read"),
    Route("GET", f"{_DATA}/sample-intensities", sample_intensities, "data:read"),
    Route("GET", f"{_DATA}/peptide-positions", peptide_positions, "data:read"),
    Route("POST", f"{_DATA}/peptide-similarity", peptide_similarity, "data:read"),
    Route("POST", f"{_DATA}/query", run_sql, "data:read"),
    Route("GET", f"{_DATA}/storage/token", storage_token, "data:read"),
]
