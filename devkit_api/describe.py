"""What the API reference says of a handler, written beside the handler.

`@describe(...)` changes nothing about how a handler works: `apidocs/` reads it, together with the route, its policy and
the handler's docstring. Every handler has it; a test holds that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from aiohttp import web
from marshmallow import Schema

from devkit_api.errors import DevkitError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# A marshmallow schema becomes a named component; a mapping is JSON Schema as it stands.
Shape = type[Schema] | Mapping[str, Any]

JSON = "application/json"
EVENTS = "text/event-stream"
BYTES = "application/octet-stream"


@attrs.frozen
class Parameter:
    """One parameter of an address: `schema` is JSON Schema, `where` is query or header."""

    name: str
    schema: Mapping[str, Any]
    about: str = ""
    required: bool = False
    where: str = "query"


@attrs.frozen
class Description:
    """What is not in the route itself. `answers` maps further success codes to what they mean."""

    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: Shape | None = None
    form: Mapping[str, Any] | None = None
    binary_body: bool = False
    body_optional: bool = False
    example: Mapping[str, Any] | None = None
    answer: Shape | None = None
    status: int = 200
    answers: Mapping[int, str] = attrs.Factory(dict)
    media: str = JSON
    errors: tuple[type[DevkitError], ...] = ()
    links: Mapping[str, Mapping[str, Any]] = attrs.Factory(dict)


_DESCRIPTIONS: dict[Any, Description] = {}


def describe(**what: Any) -> Callable[[Handler], Handler]:
    """Note the `Description` of a handler."""
    description = Description(**what)

    def note(handler: Handler) -> Handler:
        _DESCRIPTIONS[handler] = description
        return handler

    return note


def description_of(handler: Handler) -> Description | None:
    """What was noted, or None."""
    return _DESCRIPTIONS.get(handler)


def whole(name: str, about: str, *, low: int, high: int, default: int | None = None) -> Parameter:
    """An integer query parameter."""
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(name, schema if default is None else {**schema, "default": default}, about)


def text(
    name: str, about: str, *, max_length: int = 200, required: bool = False, example: str | None = None
) -> Parameter:
    """A text query parameter of printable characters."""
    schema: dict[str, Any] = {"type": "string", "maxLength": max_length}
    return Parameter(name, schema if example is None else {**schema, "examples": [example]}, about, required)


def choice(name: str, about: str, *allowed: str, default: str | None = None, required: bool = False) -> Parameter:
    """A query parameter that is one of these words."""
    schema: dict[str, Any] = {"type": "string", "enum": list(allowed)}
    return Parameter(name, schema if default is None else {**schema, "default": default}, about, required)


PAGING = (
    whole("page", "Page, from 1.", low=1, high=1_000_000, default=1),
    whole("limit", "Items on a page.", low=1, high=1000, default=100),
)
