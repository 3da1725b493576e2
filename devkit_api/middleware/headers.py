"""Response headers: guarantees the security headers and the correlation id on every answer the application makes.

Set when an answer is prepared, so that streams and files carry them as well. Source: OWASP Secure Headers Project.
"""

from __future__ import annotations

from aiohttp import web

from devkit_api.logs import correlation_id
from devkit_api.middleware.correlation import CORRELATION_ID

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def on_prepare(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler for `on_response_prepare`."""
    complete(response)


def complete(response: web.StreamResponse) -> None:
    """Set what is not set yet."""
    headers = response.headers
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
    headers["Server"] = "devkit"
    headers[CORRELATION_ID] = correlation_id.get()
