"""The headers that every answer carries. Source: OWASP Secure Headers Project."""

from __future__ import annotations

from multidict import CIMultiDict

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
_JSON = CIMultiDict({"Content-Type": "application/json", **_ALL})


def of_json() -> CIMultiDict[str]:
    """What an answer in JSON begins with: one copy costs less than setting each header when the answer is prepared."""
    return _JSON.copy()


def complete(headers: CIMultiDict[str]) -> None:
    """Set what is not set yet."""
    if "X-Frame-Options" in headers:  # begun by `of_json`
        return
    if "Cache-Control" in headers or "Content-Security-Policy" in headers:
        for name, value in _ALL.items():
            headers.setdefault(name, value)
    else:  # no route sets any other of them
        headers.update(_ALL)
