"""Helpers every route uses: read a body under a schema, read query parameters, answer JSON."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
from aiohttp import web
from marshmallow import Schema

from devkit_api import deprecation, jsonio
from devkit_api.errors import BodyInvalid, BodyTooLarge, MediaTypeUnsupported, ParameterInvalid
from devkit_api.routing import Body
from devkit_api.schemas import load
from devkit_api.security import headers as security_headers

T = TypeVar("T")

_THREAD_ABOVE = 256 * 1024
_LOOK_EVERY = 0.1
# What a form adds to the source it carries: its manifest and the lines between its parts.
_FORM_BYTES = 1024 * 1024


@attrs.frozen
class BodyLimits:
    """Bytes a request body may have, by what its route takes."""

    json_bytes: int
    source_bytes: int
    object_bytes: int
    output_bytes: int

    def of(self, body: Body, request: web.Request) -> int:
        """The limit of a body; what matched nothing may send as much as JSON."""
        if body is Body.FORM and request.content_type == "multipart/form-data":
            return self.source_bytes + _FORM_BYTES
        limits = {Body.SOURCE: self.source_bytes, Body.OBJECT: self.object_bytes, Body.OUTPUT: self.output_bytes}
        return limits.get(body, self.json_bytes)


BODY_LIMITS: web.AppKey[BodyLimits] = web.AppKey("body_limits", BodyLimits)


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`value` as JSON."""
    return json_bytes(jsonio.dumps(value), status=status, headers=headers)


def json_bytes(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is JSON already."""
    all_headers = security_headers.of_json()
    if headers:
        all_headers.update(headers)
    return web.Response(body=body, status=status, headers=all_headers)


def kept_answer(request: web.Request, body: bytes, content_type: str = "application/json") -> web.Response:
    """An answer that is good until the devkit is another one: 304 to who has it."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if any(sent.value in {tag, "*"} for sent in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    charset = None if content_type == "application/json" else "utf-8"
    return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)


async def read_json(request: web.Request, *, optional: bool = False) -> Any:
    """The body as strictly parsed JSON. An empty body is `{}` when `optional`, because the SDK posts empty bodies
    labelled application/json (wire-contract 1.2).
    """
    data = await _read_bounded(request)
    if not data and optional:
        return {}
    if request.content_type != "application/json":
        raise MediaTypeUnsupported(content_type=request.content_type[:100], expected="application/json")
    try:
        if len(data) > _THREAD_ABOVE:
            return await asyncio.to_thread(jsonio.loads_strict, data)
        return jsonio.loads_strict(data)
    except jsonio.JsonRefused as exc:
        raise BodyInvalid(reason=str(exc)) from None


async def read_body(request: web.Request, schema: Schema, *, optional: bool = False) -> dict[str, Any]:
    """The body checked by `schema`. Raises `BodyInvalid` or `RequestInvalid`."""
    data = await read_json(request, optional=optional)
    old_names = getattr(schema, "old_names", None)
    return load(schema, deprecation.renamed(request, data, old_names) if old_names else data)


async def _read_bounded(request: web.Request) -> bytes:
    limit = request.app[BODY_LIMITS].json_bytes
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
        chunks.append(chunk)
    return b"".join(chunks)


def int_query(request: web.Request, name: str, default: int, *, low: int, high: int) -> int:
    """An integer query parameter in `low..high`. Out of range is an error, as a silent cap would hide data."""
    raw = request.query.get(name)
    if raw is None:
        return default
    if not raw.isascii() or not raw.isdigit() or len(raw) > 10 or not low <= int(raw) <= high:
        expected = f"a whole number from {low} to {high}"
        raise ParameterInvalid(name=name, reason=f"it must be {expected}", details={"expected": expected})
    return int(raw)


def choice_query(request: web.Request, name: str, default: T, allowed: Mapping[str, T]) -> T:
    """A query parameter that is one of the keys of `allowed`."""
    raw = request.query.get(name)
    if raw is None:
        return default
    if raw not in allowed:
        expected = "one of " + ", ".join(allowed)
        raise ParameterInvalid(name=name, reason=f"it must be {expected}", details={"expected": expected})
    return allowed[raw]


def text_query(request: web.Request, name: str, *, max_length: int = 200) -> str | None:
    """A printable text query parameter, or None."""
    raw = request.query.get(name)
    if raw is None or raw == "":
        return None
    if len(raw) > max_length or not raw.isprintable():
        expected = f"printable text of at most {max_length} characters"
        raise ParameterInvalid(name=name, reason=f"it must be {expected}", details={"expected": expected})
    return raw


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """`work`, cancelled when the caller's connection closes: the server itself lets handlers run on."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_EVERY))[0]:
            if request.transport is None or request.transport.is_closing():
                raise asyncio.CancelledError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def attachment(name: str) -> str:
    """A Content-Disposition that has a browser save the file under the last part of `name`."""
    filename = name.rsplit("/", 1)[-1]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


async def send_stream(
    request: web.Request, answer: web.StreamResponse, chunks: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send `chunks` as the body; HEAD gets the head alone, which aiohttp does not see to for streams.

    The first chunk is read before the status is sent, so that what is wrong with it still becomes an error.
    """
    async with aclosing(chunks):  # a file is closed now, not when somebody collects what is left
        first = await anext(chunks, b"")
        await answer.prepare(request)
        if request.method != "HEAD":
            await answer.write(first)
            async for chunk in chunks:
                await answer.write(chunk)
    await answer.write_eof()
    return answer
