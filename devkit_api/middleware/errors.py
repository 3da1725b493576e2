"""Error body: guarantees that every failure has the one shape, a catalogue code, and nothing of our insides."""

from __future__ import annotations

import errno
import logging

from aiohttp import web

from devkit_api import sdk_text
from devkit_api.errors import (
    BadRequest,
    BodyTooLarge,
    DevkitError,
    InternalError,
    MediaTypeUnsupported,
    MethodNotAllowed,
    OriginRefused,
    RouteNotFound,
    StateWriteFailed,
)
from devkit_api.httpio import json_answer
from devkit_api.logs import correlation_id
from devkit_api.routing import endpoint_of
from devkit_api.state import StateError, WriteRefused

log = logging.getLogger(__name__)

ERROR_CODE: web.RequestKey[str] = web.RequestKey("error_code", str)

# The state directory cannot take more: not the caller's fault, and not a bug.
_DISK_REFUSES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_TYPES = {401: "authentication", 403: "permission", 404: "not_found", 409: "conflict", 422: "validation", 429: "limit"}


def render(request: web.Request, exc: Exception) -> web.Response:
    """The answer for an exception. Unexpected ones are logged with their traceback and answered without it."""
    error = translate(request, exc)
    request[ERROR_CODE] = error.code
    if sdk_text.is_sdk(request):
        error.message = sdk_text.plain(error.message)
    if isinstance(exc, ConnectionResetError):
        log.info("the client went away", extra={"route": _route(request)})
    elif error is exc and error.status >= 500:
        log.warning("refused: %s", error.code, extra={"route": _route(request)})
    elif isinstance(exc, WriteRefused):
        log.error("request failed: %s (%s)", error.code, exc, extra={"route": _route(request)})
    elif error.status >= 500:
        log.error("request failed: %s", error.code, exc_info=exc, extra={"route": _route(request)})
    return answer(error)


def answer(error: DevkitError) -> web.Response:
    """The error body of `design.md`. Never 200; the correlation id is the one of the log line."""
    body = {
        "success": False,
        "error": {
            "code": error.code,
            "message": error.message,
            "details": error.details,
            "hint": error.advice,
            "docs": error.docs,
        },
        "type": _TYPES.get(error.status, "server" if error.status >= 500 else "request"),
        "correlation_id": correlation_id.get(),
    }
    response = json_answer(body, status=error.status, headers=error.headers)
    if error.headers.get("Connection") == "close":
        response.force_close()
    return response


def translate(request: web.Request, exc: BaseException) -> DevkitError:
    """The error of the catalogue that stands for an exception."""
    if isinstance(exc, DevkitError):
        return exc
    if isinstance(exc, StateError) or (isinstance(exc, OSError) and exc.errno in _DISK_REFUSES):
        return StateWriteFailed(headers={"Retry-After": "1"})
    if isinstance(exc, web.HTTPException):
        return _from_http(request, exc)
    if isinstance(exc, web.RequestPayloadError):
        return BadRequest(reason="its body is broken or not encoded as it says", headers={"Connection": "close"})
    return InternalError()


def _from_http(request: web.Request, exc: web.HTTPException) -> DevkitError:
    if isinstance(exc, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exc.allowed_methods))
        return MethodNotAllowed(method=request.method[:16], path=_shown(request.path), headers={"Allow": allowed})
    if exc.status == 403 and request.method == "OPTIONS":
        return OriginRefused()  # aiohttp-cors answers refused preflights so
    if exc.status == 404:
        return RouteNotFound(method=request.method[:16], path=_shown(request.path))
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(limit=request.client_max_size)
    if exc.status == 415:
        return MediaTypeUnsupported(content_type=request.content_type, expected="application/json")
    if 400 <= exc.status < 500:
        return BadRequest(reason=exc.reason or "it cannot be understood")
    return InternalError()


def _shown(path: str) -> str:
    """Text of the caller that JSON can hold."""
    return path[:200].encode("utf-8", "replace").decode()


def _route(request: web.Request) -> str:
    return endpoint_of(request).template
