"""Response headers: guarantees the security headers and the correlation id on every answer the application makes.

Set when an answer is prepared, so that streams and files carry them as well.
"""

from __future__ import annotations

from aiohttp import web

from devkit_api import deprecation
from devkit_api.logs import correlation_id
from devkit_api.middleware.correlation import CORRELATION_ID
from devkit_api.security import headers as table
from devkit_api.security.proxies import PROXIES


def setup(app: web.Application, *, https: bool) -> None:
    """Complete every answer of `app`; `https`: clients reach it under https."""
    proxies = app[PROXIES]

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        complete(response)
        deprecation.complete(request, response)
        if https or proxies.is_https(request):
            response.headers["Strict-Transport-Security"] = table.HSTS

    app.on_response_prepare.append(on_prepare)


def complete(response: web.StreamResponse) -> None:
    """Set what is not set yet."""
    headers = response.headers
    table.complete(headers)
    headers.pop("Server", None)  # which software answers is nobody's business
    headers[CORRELATION_ID] = correlation_id.get()
