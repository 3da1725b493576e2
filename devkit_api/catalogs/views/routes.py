"""Addresses of data views (wire-contract F.8)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.catalogs.answers import CATALOG_ERRORS
from devkit_api.catalogs.views import answers
from devkit_api.catalogs.views.schemas import ExportSchema, ViewPatchSchema, ViewSchema
from devkit_api.catalogs.views.service import ViewService
from devkit_api.describe import describe, whole
from devkit_api.errors import (
    CatalogsOff,
    DataViewNotFound,
    QueryParameterInvalid,
    SqlInvalid,
    SqlRefused,
    SqlResultTooLarge,
    SqlTimeout,
)
from devkit_api.httpio import int_query, json_answer, read_body, read_json
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Route
from devkit_api.schemas import load, pagination

VIEWS: web.AppKey[ViewService] = web.AppKey("data_views", ViewService)

_VIEW, _PATCH, _EXPORT = ViewSchema(), ViewPatchSchema(), ExportSchema()
_MAX_PAGE = 10_000_000
_ONE_ERRORS = (DataViewNotFound, CatalogsOff, QueryParameterInvalid)
_SAVE_ERRORS = (*CATALOG_ERRORS, SqlInvalid, SqlRefused, SqlTimeout)
_RUN_ERRORS = (DataViewNotFound, *_SAVE_ERRORS, SqlResultTooLarge)


@describe(
    query=(
        whole("limit", "Views on a page.", low=1, high=1000, default=50),
        whole("page", "Page, from 1.", low=1, high=_MAX_PAGE, default=1),
    ),
    answer=answers.DataViewPageSchema,
    errors=(CatalogsOff,),
)
async def list_views(request: web.Request) -> web.Response:
    """`GET /v1/data-views?limit&page`: saved views, newest first."""
    limit = int_query(request, "limit", 50, low=1, high=1000)
    page = int_query(request, "page", 1, low=1, high=_MAX_PAGE)
    items, total = await request.app[VIEWS].list(request[PRINCIPAL], limit=limit, page=page)
    return json_answer({"items": items, "pagination": pagination(page=page, limit=limit, total=total)})


@describe(
    body=ViewSchema,
    example={
        "name": "Nonamers by allele",
        "sql": "SELECT sequence FROM peptides WHERE length = %s ORDER BY sequence",
        "params": [9],
        "providerKey": "alithea-bio",
        "catalogKey": "immunopeptidomics",
    },
    answer=answers.DataViewSchema,
    status=201,
    errors=_SAVE_ERRORS,
)
async def create_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views`: save a view. The database checks its queries, and does not run them."""
    body = await read_json(request)
    load(_VIEW, body)
    return json_answer(await request.app[VIEWS].create(body, request[PRINCIPAL]), status=201)


@describe(answer=answers.DataViewSchema, errors=_ONE_ERRORS)
async def get_view(request: web.Request) -> web.Response:
    """`GET /v1/data-views/{view_id}`: one view."""
    return json_answer((await request.app[VIEWS].get(_view(request), request[PRINCIPAL])).view())


@describe(
    body=ViewPatchSchema,
    example={"versionPinMode": "current"},
    answer=answers.DataViewSchema,
    errors=(DataViewNotFound, *_SAVE_ERRORS),
)
async def update_view(request: web.Request) -> web.Response:
    """`PATCH /v1/data-views/{view_id}`: change what is named."""
    body = await read_json(request)
    load(_PATCH, body)
    return json_answer(await request.app[VIEWS].update(_view(request), body, request[PRINCIPAL]))


@describe(answer=answers.DeletedDataViewSchema, errors=_ONE_ERRORS)
async def delete_view(request: web.Request) -> web.Response:
    """`DELETE /v1/data-views/{view_id}`: forget a view."""
    return json_answer(await request.app[VIEWS].delete(_view(request), request[PRINCIPAL]))


@describe(answer=answers.DataViewStatusSchema, errors=_ONE_ERRORS)
async def view_status(request: web.Request) -> web.Response:
    """`GET /v1/data-views/{view_id}/status`: whether its queries can be run now."""
    return json_answer(await request.app[VIEWS].status(_view(request), request[PRINCIPAL]))


@describe(answer=answers.RefreshedDataViewSchema, errors=_RUN_ERRORS)
async def refresh_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views/{view_id}/refresh`: run its queries, and count their rows."""
    return json_answer(await request.app[VIEWS].refresh(_view(request), request[PRINCIPAL]))


@describe(
    body=ExportSchema,
    body_optional=True,
    example={"format": "CSV"},
    answer=answers.DataViewExportSchema,
    errors=_RUN_ERRORS,
)
async def export_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views/{view_id}/export`: its rows as files, with addresses for an hour."""
    body = await read_body(request, _EXPORT, optional=True)
    return json_answer(await request.app[VIEWS].export(_view(request), body["format"], request[PRINCIPAL]))


def _view(request: web.Request) -> str:
    return request.match_info["view_id"]


_ONE = "/v1/data-views/{view_id}"
ROUTES = [
    Route("GET", "/v1/data-views", list_views, "data:read"),
    Route("POST", "/v1/data-views", create_view, "data:write"),
    Route("GET", _ONE, get_view, "data:read"),
    Route("PATCH", _ONE, update_view, "data:write"),
    Route("DELETE", _ONE, delete_view, "data:write"),
    Route("GET", _ONE + "/status", view_status, "data:read"),
    # Each of up to 20 queries has a limit of its own, and files are written.
    Route("POST", _ONE + "/refresh", refresh_view, "data:write", stream=True),
    Route("POST", _ONE + "/export", export_view, "data:write", stream=True),
]
