"""Deprecation: guarantees that a client that uses an old field name works, and is told.

The SDK's camelCase names are the contract. Older spellings are taken on input; the answer then has a `Deprecation`
field (RFC 9745), and the log one line per client.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

log = logging.getLogger(__name__)

# 2026-01-01: a date as RFC 9651 writes it.
SINCE = "@1767225600"
_USED: web.RequestKey[bool] = web.RequestKey("deprecated_names", bool)
_MAX_CLIENTS = 1000
_told: dict[str, None] = {}


def renamed(request: web.Request, data: Any, names: Mapping[str, str]) -> Any:
    """`data` with old names replaced. An old name beside the new one stays, and is refused as unknown."""
    if not isinstance(data, dict):
        return data
    used = [old for old, new in names.items() if old in data and new not in data]
    if not used:
        return data
    note(request, used)
    return {names[key] if key in used else key: value for key, value in data.items()}


def note(request: web.Request, used: Iterable[str]) -> None:
    """The client used these old names."""
    request[_USED] = True
    client = f"{request.remote} {request.headers.get('User-Agent', '')[:100]}"
    if client in _told:
        return
    if len(_told) >= _MAX_CLIENTS:
        _told.pop(next(iter(_told)))
    _told[client] = None
    log.warning("a client uses deprecated field names", extra={"client": client, "names": ", ".join(used)})


def complete(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Set the header when old names were used."""
    if _told and request.get(_USED):  # most never meet one, and the look-up is paid on every answer
        response.headers["Deprecation"] = SINCE
