"""Response headers: guarantees the security headers and the correlation id on every answer the application makes.

Set when an answer is prepared, so that streams and files carry them as well. Source: OWASP Secure Headers Project.
"""

from __future__ import annotations

from aiohttp import web

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
HTTPS: web.AppKey[bool] = web.AppKey("https", bool)


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler for `on_response_prepare`."""
    complete(response)
    deprecation.complete(request, response)
    if request.app[HTTPS] or request.app[PROXIES].is_https(request):
        response.headers["Strict-Transport-Security"] = HSTS


def complete(response: web.StreamResponse) -> None:
    """Set what is not set yet."""
    headers = response.headers
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
    headers.pop("Server", None)  # which software answers is nobody's business
    headers[CORRELATION_ID] = correlation_id.get()
