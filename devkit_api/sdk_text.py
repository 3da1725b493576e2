"""Text for the official CLI, which prints messages as Rich markup and stops at a closing tag it does not know."""

from __future__ import annotations

from aiohttp import web
from rich.markup import escape


def is_sdk(request: web.BaseRequest) -> bool:
    """Whether the official SDK or its CLI asks."""
    return request.headers.get("User-Agent", "").startswith("hla-compass-sdk/")


def plain(text: str) -> str:
    """`text` that Rich prints as it is."""
    # The added dot keeps `escape` from doubling a last backslash, which would then be shown twice.
    return escape(text + ".")[:-1]
