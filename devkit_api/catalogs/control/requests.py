"""What the requests of the control plane have in common."""

from __future__ import annotations

from aiohttp import web

from devkit_api.describe import Parameter
from devkit_api.errors import CatalogNotFound, CatalogsOff, IdempotencyKeyReused, QueryParameterInvalid

# An id in an address is a UUID, and what it names may not be there.
CATALOG_ERRORS = (CatalogNotFound, CatalogsOff, QueryParameterInvalid)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", {"type": "string", "maxLength": 256}, "The body's `idempotencyKey` again, or nothing.",
    where="header",
)  # fmt: skip


def catalog_of(request: web.Request) -> str:
    """The catalog of the address."""
    return request.match_info["catalog_id"]


def same_key(request: web.Request, key: str) -> None:
    """The SDK sends the key in the header as well; two different ones would be two requests in one."""
    if request.headers.get("Idempotency-Key", key) != key:
        raise IdempotencyKeyReused
