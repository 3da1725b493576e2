"""Addresses of catalogs and their versions, for administrators (wire-contract F.2)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.catalogs.control import answers, ingestion_routes, upload_routes
from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.requests import CATALOG_ERRORS, catalog_of
from devkit_api.catalogs.control.schemas import CatalogCreateSchema, CatalogPatchSchema
from devkit_api.describe import describe
from devkit_api.errors import CatalogExists, CatalogReadOnly, CatalogsOff, QueryParameterInvalid, VersionNotFound
from devkit_api.httpio import json_answer, read_body
from devkit_api.routing import Route

ADMIN: web.AppKey[CatalogAdmin] = web.AppKey("catalog_admin", CatalogAdmin)

_CREATE, _PATCH = CatalogCreateSchema(), CatalogPatchSchema()


@describe(
    body=CatalogCreateSchema,
    example={
        "providerKey": "my-lab",
        "catalogKey": "melanoma-2026",
        "schemaName": "observation",
        "label": "Melanoma, 2026",
        "sourceTables": ["peptides", "proteins"],
        "ingestionTables": ["peptides"],
    },
    answer=answers.ManagedCatalogSchema,
    status=201,
    errors=(CatalogExists, CatalogsOff),
)
async def create_catalog(request: web.Request) -> web.Response:
    """`POST /v1/data-catalogs`: a new, empty catalog. One deleted under the same keys goes for good."""
    return json_answer(await request.app[ADMIN].create(await read_body(request, _CREATE)), status=201)


@describe(answer=answers.ManagedCatalogSchema, errors=CATALOG_ERRORS)
async def get_catalog(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}`: a catalog, with its current version."""
    return json_answer(await request.app[ADMIN].get(catalog_of(request)))


@describe(
    body=CatalogPatchSchema,
    example={"label": "Melanoma, second cohort"},
    answer=answers.ManagedCatalogSchema,
    errors=(*CATALOG_ERRORS, CatalogReadOnly),
)
async def update_catalog(request: web.Request) -> web.Response:
    """`PATCH /v1/data-catalogs/{catalog_id}`: another label or description."""
    return json_answer(await request.app[ADMIN].update(catalog_of(request), await read_body(request, _PATCH)))


@describe(answer=answers.DeletedCatalogSchema, errors=(*CATALOG_ERRORS, CatalogReadOnly))
async def delete_catalog(request: web.Request) -> web.Response:
    """`DELETE /v1/data-catalogs/{catalog_id}`: hide a catalog."""
    return json_answer(await request.app[ADMIN].delete(catalog_of(request)))


@describe(answer=answers.CatalogVersionListSchema, errors=CATALOG_ERRORS)
async def list_versions(request: web.Request) -> web.Response:
    """`GET /v1/data-catalogs/{catalog_id}/versions`: its ready versions, newest first."""
    admin = request.app[ADMIN]
    await admin.get(catalog_of(request))
    return json_answer({"items": await admin.versions(catalog_of(request))})


@describe(answer=answers.CatalogVersionSchema, errors=(VersionNotFound, CatalogsOff, QueryParameterInvalid))
async def get_version(request: web.Request) -> web.Response:
    """`GET /v1/data-catalog-versions/{version_id}`: one ready version."""
    return json_answer(await request.app[ADMIN].version(request.match_info["version_id"]))


_CATALOG = "/v1/data-catalogs/{catalog_id}"
ROUTES = [
    Route("POST", "/v1/data-catalogs", create_catalog, "catalogs:admin"),
    Route("GET", _CATALOG, get_catalog, "catalogs:read"),
    Route("PATCH", _CATALOG, update_catalog, "catalogs:admin"),
    Route("DELETE", _CATALOG, delete_catalog, "catalogs:admin"),
    Route("GET", _CATALOG + "/versions", list_versions, "catalogs:read"),
    Route("GET", "/v1/data-catalog-versions/{version_id}", get_version, "catalogs:read"),
    *upload_routes.ROUTES,
    *ingestion_routes.ROUTES,
]
