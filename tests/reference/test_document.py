"""The OpenAPI document is whole, is what is served, and its page keeps the strict content policy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devkit_api.apidocs.document import build, undescribed
from devkit_api.apidocs.page import render
from devkit_api.errors import CATALOGUE
from devkit_api.route_table import all_routes
from devkit_api.routing import Route
from devkit_api.security.policy import POLICIES
from devkit_api.security.principals import Kind

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return build(all_routes())


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m.upper(), path): op for path, item in document["paths"].items() for m, op in item.items()}


def test_every_route_is_in_it_and_described(built: dict[str, Any]) -> None:
    expected = {(r.method, re.sub(r":[^{}]*\}", "}", r.path)) for r in all_routes()}
    assert set(operations(built)) == expected
    assert not undescribed(all_routes()), "put @describe(...) on the handler (devkit_api/describe.py)"


def test_every_operation_says_who_may_call_and_what_can_go_wrong(built: dict[str, Any]) -> None:
    for (_, path), operation in operations(built).items():
        policy = POLICIES[operation["x-policy"]]
        opened = Kind.ANONYMOUS in policy.kinds
        assert (operation["security"] == [{}]) is opened, path
        assert operation["summary"], path
        assert {"400", "401", "413", "500", "503"} <= operation["responses"].keys(), path
        assert ("403" in operation["responses"]) or opened, path
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"415", "422"} <= operation["responses"].keys(), path


def test_every_reference_resolves_and_every_code_has_an_example(built: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(built))):
        found: Any = built
        for step in reference.split("/"):
            found = found[step]
    assert built["components"]["examples"].keys() == CATALOGUE.keys()


def test_operation_ids_are_unique_and_links_lead_to_them(built: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(built).values()]
    assert len(ids) == len(set(ids))
    links = re.findall(r'"links": (\{.*?\}\}\})', json.dumps(built))
    assert set(re.findall(r'"operationId": "(\w+)"', " ".join(links))) <= set(ids)


def test_a_route_without_description_is_found() -> None:
    async def odd(request: web.Request) -> web.Response:
        """`GET /v1/odd/{thing}`: odd things."""
        return web.Response()

    route = Route("GET", "/v1/odd/{thing:.+}", odd, "modules:read")
    operation = build([route])["paths"]["/v1/odd/{thing}"]["get"]
    assert operation["summary"] == "Odd things"
    assert operation["security"] == [{"apiKey": []}, {"session": []}]
    assert undescribed([route]) == ["GET /v1/odd/{thing:.+}"]


def test_the_snapshot_is_what_is_built(built: dict[str, Any]) -> None:
    kept = json.loads((REPO / "docs" / "openapi.json").read_text())
    assert kept == built, "the contract changed: run python scripts/make_docs.py and have the change reviewed"


def test_the_page_escapes_and_runs_nothing(built: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(built))
    hostile["paths"]["/"]["get"]["summary"] = "<script>alert(1)</script>"
    page = render(hostile)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"\son\w+=|style=|<style|javascript:|https?://", page)


async def test_served_with_its_own_policy_and_cached(make_client: Any, built: dict[str, Any]) -> None:
    client = await make_client()
    page = await client.anonymous.get(client.make_url("/docs"))
    assert (page.status, page.content_type) == (200, "text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    html = await page.text()
    for _, path in operations(built):
        assert f"<code>{path}</code>" in html
    named = re.findall(r'<link rel="stylesheet" href="([^"]+)">', html)
    style = await client.anonymous.get(client.make_url(named[0]))
    assert (len(named), style.status, style.content_type) == (1, 200, "text/css")
    assert "immutable" in style.headers["Cache-Control"]
    other = await client.anonymous.get(client.make_url("/docs/reference-0123456789abcdef.css"))
    assert (other.status, other.headers["Cache-Control"]) == (404, "no-store")
    document = await client.get("/docs/openapi.json")
    assert await document.json() == built
    for path in (
        "/docs/openapi.json",
        "/docs",
        "/docs/errors",
        "/docs/errors/RUN_NOT_FOUND",
        "/docs/errors/RUN_NO_OUTPUT",
    ):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        other = await client.get(path, headers={"If-None-Match": '"another"'})
        assert (first.status, again.status, other.status) == (200, 304, 200), path
        assert await again.read() == b""
