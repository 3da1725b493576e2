"""Response headers: guarantees the security headers and the correlation id on every answer the application makes.

Set when an answer is prepared, so that streams and files carry them as well. Source: OWASP Secure Headers Project.
"""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from devkit_api import deprecation
from devkit_api.logs import correlation_id
from devkit_api.middleware.correlation import CORRELATION_ID
from devkit_api.security.proxies import PROXIES

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


HSTS = "max-age=31536000"
_ALL = CIMultiDict({**SECURITY_HEADERS, "Cache-Control": "no-store"})


def setup(app: web.Application, *, https: bool) -> None:
    """Complete every answer of `app`; `https`: clients reach it under https."""
    proxies = app[PROXIES]

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        complete(response)
        deprecation.complete(request, response)
        if https or proxies.is_https(request):
            response.headers["Strict-Transport-Security"] = HSTS

    app.on_response_prepare.append(on_prepare)


def complete(response: web.StreamResponse) -> None:
    """Set what is not set yet."""
    headers = response.headers
    if "Cache-Control" in headers or "Content-Security-Policy" in headers:
        for name, value in _ALL.items():
            headers.setdefault(name, value)
    else:  # nearly every answer, and no route sets any other of them
        headers.update(_ALL)
    headers.pop("Server", None)  # which software answers is nobody's business
    headers[CORRELATION_ID] = correlation_id.get()
