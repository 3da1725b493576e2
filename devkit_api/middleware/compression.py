"""Compression: guarantees that a large answer is sent small to who takes gzip, and that no secret is compressed.

How small an answer gets tells what repeats in it (BREACH). So only addresses whose answers hold data, and neither
tokens nor signed addresses, are compressed: the policies below. Streams and files are sent as they are; no browser ever
sends our credentials by itself, so this is the second line.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TypeGuard

from aiohttp import hdrs, web

from devkit_api.routing import Endpoint

COMPRESS_ABOVE: web.AppKey[int] = web.AppKey("compress_above", int)

_WITHOUT_SECRETS = frozenset(
    {"system:read", "system:metrics", "modules:read", "runs:list", "data:read", "catalogs:read"}
)
# The fastest level: on 20 KB of rows it takes half the time of the usual 6, and leaves a tenth more.
_LEVEL = 1
_THREAD_ABOVE = 64 * 1024


def is_large(response: web.StreamResponse, app: web.Application, endpoint: Endpoint) -> TypeGuard[web.Response]:
    """Whether the body of an answer is large enough, and may be compressed."""
    if not isinstance(response, web.Response) or not isinstance(body := response.body, bytes):
        return False
    above = app[COMPRESS_ABOVE]
    return len(body) > above > 0 and endpoint.policy in _WITHOUT_SECRETS


async def shrink(request: web.Request, response: web.Response) -> None:
    """Compress the body of a large answer when the caller takes it."""
    body = response.body
    assert isinstance(body, bytes)  # noqa: S101  `is_large` looked
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if not takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        return
    response.body = await asyncio.to_thread(_packed, body) if len(body) > _THREAD_ABOVE else _packed(body)
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    tag = response.headers.get(hdrs.ETAG, "")
    if tag.startswith('"'):  # a strong one promises the very bytes
        response.headers[hdrs.ETAG] = f"W/{tag}"


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding has gzip in it (RFC 9110, 12.5.3); one with q=0 is a refusal."""
    weights = {}
    for item in accepted.lower().split(","):
        name, _, rest = item.partition(";")
        weights[name.strip()] = rest.strip().removeprefix("q=") or "1"
    try:
        return float(weights.get("gzip", weights.get("*", "0"))) > 0
    except ValueError:
        return False


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=31)  # 31: with the header of gzip
    return packer.compress(body) + packer.flush()
