"""What can go wrong at an address, by status, from the error catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from devkit_api import errors
from devkit_api.describe import Description
from devkit_api.errors import CATALOGUE, DevkitError
from devkit_api.routing import Route
from devkit_api.security.policy import Policy
from devkit_api.security.principals import Kind

_TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "The one shape of every failure.",
    "required": ["success", "error", "type", "correlation_id"],
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "hint", "docs"],
            "properties": {
                "code": {**_TEXT, "description": "A code of the catalogue."},
                "message": _TEXT,
                "details": {"type": "object", "description": "What is known besides, by code."},
                "hint": {**_TEXT, "description": "What to do."},
                "docs": {**_TEXT, "description": "Where to read on."},
            },
        },
        "type": {"enum": ["authentication", "permission", "not_found", "conflict", "validation", "limit", "request",
                          "server"]},
        "correlation_id": _TEXT,
    },
}  # fmt: skip
_RETRY = {"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
_CHALLENGE = {"description": "How to authenticate.", "schema": _TEXT}


def examples() -> dict[str, dict[str, Any]]:
    """One example per code of the catalogue."""
    return {code: {"summary": _first_line(error), "value": _example(error)} for code, error in CATALOGUE.items()}


def responses(route: Route, known: Description, policy: Policy, shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The failures of a route, grouped by status. Each distinct group is noted once, in `shared`."""
    by_status: dict[int, dict[str, type[DevkitError]]] = {}
    for error in _possible(route, known, policy):
        by_status.setdefault(error.status, {})[error.code] = error
    found = {}
    for status in sorted(by_status):
        name = ".".join([str(status), *sorted(by_status[status])])
        shared.setdefault(name, _response(status, by_status[status]))
        found[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return found


def _possible(route: Route, known: Description, policy: Policy) -> Iterator[type[DevkitError]]:
    yield from (errors.BadRequest, errors.InternalError, errors.Unavailable, errors.BodyTooLarge)
    # A wrong credential is refused at every address, also where none is needed.
    yield errors.Unauthorized
    if Kind.ANONYMOUS not in policy.kinds:
        yield errors.Forbidden
    if Kind.RUN_TOKEN not in policy.kinds or len(policy.kinds) > 1:
        yield errors.RateLimited
    if "{" in route.path:
        yield errors.RouteNotFound
    if known.query:
        yield errors.ParameterInvalid
    if route.method != "GET":
        yield errors.StateWriteFailed
        if known.body is not None or known.form is not None:
            yield from (errors.BodyInvalid, errors.MediaTypeUnsupported, errors.RequestInvalid)
    yield from known.errors


def _response(status: int, codes: dict[str, type[DevkitError]]) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Correlation-ID": {"$ref": "#/components/headers/CorrelationId"}}
    if status == 429:
        headers["Retry-After"] = _RETRY
    if status == 401 and errors.Unauthorized.code in codes:
        headers["WWW-Authenticate"] = _CHALLENGE
    told = "\n".join(f"- `{code}`: {_first_line(error)}" for code, error in sorted(codes.items()))
    examples_ = {code: {"$ref": f"#/components/examples/{code}"} for code in sorted(codes)}
    return {
        "description": told,
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "examples": examples_}},
    }


def _first_line(error: type[DevkitError]) -> str:
    return (error.__doc__ or error.code).strip().splitlines()[0]


def _example(error: type[DevkitError]) -> dict[str, Any]:
    kinds = {401: "authentication", 403: "permission", 404: "not_found", 409: "conflict", 422: "validation",
             429: "limit"}  # fmt: skip
    return {
        "success": False,
        "error": {
            "code": error.code,
            "message": _filled(error.template),
            "details": {},
            "hint": _filled(error.hint),
            "docs": f"/docs/errors/{error.code}",
        },
        "type": kinds.get(error.status, "server" if error.status >= 500 else "request"),
        "correlation_id": "2f1c7a0e5b9d4c38a6e1f0d2b7c4a913",
    }


def _filled(template: str) -> str:
    """A message with the names of its fields where their values would be."""
    return re.sub(r"\{(\w+)(?:![rs])?(?::[^}]*)?\}", r"<\1>", template)
