"""Addresses of the API reference: the document, a page for people, and the page's own style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from aiohttp import web

from devkit_api import jsonio
from devkit_api.apidocs import style
from devkit_api.describe import describe
from devkit_api.httpio import kept_answer
from devkit_api.routing import Route

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
    return kept_answer(request, request.app[REFERENCE].as_json())


@describe(answer=_TEXT, media="text/html", answers={304: "It has not changed."})
async def page(request: web.Request) -> web.StreamResponse:
    """`GET /docs`: every address, for people."""
    answer = kept_answer(request, request.app[REFERENCE].as_page(), "text/html")
    answer.headers["Content-Security-Policy"] = PAGE_POLICY
    return answer


@describe(answer=_TEXT, media="text/css")
async def stylesheet(request: web.Request) -> web.StreamResponse:
    """`GET /docs/reference-{digest}.css`: the style of that page, which never changes under this name."""
    if request.match_info["digest"] != style.digest():
        raise web.HTTPNotFound
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(body=style.content(), content_type="text/css", charset="utf-8", headers=headers)


ROUTES = [
    Route("GET", "/docs", page, "system:read"),
    Route("GET", "/docs/openapi.json", openapi, "system:read"),
    Route("GET", "/docs/reference-{digest:[0-9a-f]+}.css", stylesheet, "system:read"),
]
