"""Addresses of the API reference: the document, a page for people, and the page's own style sheet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from aiohttp import web

from devkit_api import jsonio
from devkit_api.describe import describe
from devkit_api.routing import Route

_STYLE = Path(__file__).parent / "assets" / "reference.css"
_TEXT = {"type": "string"}
# The page runs no script and loads nothing but its style sheet.
PAGE_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@attrs.define
class Reference:
    """The document and the page of these routes, made when first asked for: the libraries for it are not small."""

    routes: Sequence[Route]
    _document: dict[str, Any] | None = attrs.field(default=None, init=False)
    _made: dict[str, bytes] = attrs.field(factory=dict, init=False)

    @property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self._document is None:
            from devkit_api.apidocs.document import build

            self._document = build(self.routes)
        return self._document

    def as_json(self) -> bytes:
        """The document as it is served."""
        if "json" not in self._made:
            self._made["json"] = jsonio.dumps(self.document)
        return self._made["json"]

    def as_page(self) -> bytes:
        """The page for people."""
        if "page" not in self._made:
            from devkit_api.apidocs.page import render

            self._made["page"] = render(self.document).encode()
        return self._made["page"]


REFERENCE: web.AppKey[Reference] = web.AppKey("reference", Reference)


@describe(answer={"type": "object", "required": ["openapi", "info", "paths"]}, answers={304: "It has not changed."})
async def openapi(request: web.Request) -> web.StreamResponse:
    """`GET /docs/openapi.json`: this document, OpenAPI 3.1."""
    return _kept(request, request.app[REFERENCE].as_json(), "application/json")


@describe(answer=_TEXT, media="text/html", answers={304: "It has not changed."})
async def page(request: web.Request) -> web.StreamResponse:
    """`GET /docs`: every address, for people."""
    answer = _kept(request, request.app[REFERENCE].as_page(), "text/html")
    answer.headers["Content-Security-Policy"] = PAGE_POLICY
    return answer


@describe(answer=_TEXT, media="text/css", answers={304: "It has not changed."})
async def style(request: web.Request) -> web.StreamResponse:
    """`GET /docs/reference.css`: the style of that page."""
    return _kept(request, _STYLE.read_bytes(), "text/css")


def _kept(request: web.Request, body: bytes, content_type: str) -> web.StreamResponse:
    """An answer that is good until the devkit is another one."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if any(sent.value in {tag, "*"} for sent in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    charset = None if content_type == "application/json" else "utf-8"
    return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)


ROUTES = [
    Route("GET", "/docs", page, "system:read"),
    Route("GET", "/docs/openapi.json", openapi, "system:read"),
    Route("GET", "/docs/reference.css", style, "system:read"),
]
