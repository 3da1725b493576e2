"""Addresses of data views (wire-contract F.8)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.catalogs.views.schemas import ExportSchema, ViewPatchSchema, ViewSchema
from devkit_api.catalogs.views.service import ViewService
from devkit_api.httpio import int_query, json_answer, page_answer, read_body, read_json
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.routing import Route
from devkit_api.schemas import load

VIEWS: web.AppKey[ViewService] = web.AppKey("data_views", ViewService)

_VIEW, _PATCH, _EXPORT = ViewSchema(), ViewPatchSchema(), ExportSchema()


async def list_views(request: web.Request) -> web.Response:
    """`GET /v1/data-views?limit&page`."""
    limit = int_query(request, "limit", 50, low=1, high=1000)
    page = int_query(request, "page", 1, low=1, high=10_000_000)
    items, total = await request.app[VIEWS].list(request[PRINCIPAL], limit=limit, page=page)
    return json_answer({"items": items, "pagination": page_answer(items, page=page, limit=limit, total=total)})


async def create_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views`."""
    body = await read_json(request)
    load(_VIEW, body)
    return json_answer(await request.app[VIEWS].create(body, request[PRINCIPAL]), status=201)


async def get_view(request: web.Request) -> web.Response:
    """`GET /v1/data-views/{view_id}`."""
    return json_answer((await request.app[VIEWS].get(_view(request), request[PRINCIPAL])).view())


async def update_view(request: web.Request) -> web.Response:
    """`PATCH /v1/data-views/{view_id}`."""
    body = await read_json(request)
    load(_PATCH, body)
    return json_answer(await request.app[VIEWS].update(_view(request), body, request[PRINCIPAL]))


async def delete_view(request: web.Request) -> web.Response:
    """`DELETE /v1/data-views/{view_id}`."""
    return json_answer(await request.app[VIEWS].delete(_view(request), request[PRINCIPAL]))


async def view_status(request: web.Request) -> web.Response:
    """`GET /v1/data-views/{view_id}/status`."""
    return json_answer(await request.app[VIEWS].status(_view(request), request[PRINCIPAL]))


async def refresh_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views/{view_id}/refresh`."""
    return json_answer(await request.app[VIEWS].refresh(_view(request), request[PRINCIPAL]))


async def export_view(request: web.Request) -> web.Response:
    """`POST /v1/data-views/{view_id}/export`."""
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
    Route("POST", _ONE + "/refresh", refresh_view, "data:write"),
    Route("POST", _ONE + "/export", export_view, "data:write"),
]
