"""The public keys of another token issuer: a JWK set (RFC 7517) from an address or a file, kept in memory.

A token names its key by `kid`. The name is looked up among the keys we hold and used for nothing else. Each key has one
algorithm, which follows from its kind, so a token cannot choose how it is checked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import aiofiles
import jwt
from aiohttp import ClientError, ClientSession, ClientTimeout
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from devkit_api import jsonio

log = logging.getLogger(__name__)

ALGORITHMS = frozenset({"RS256", "ES256"})
MIN_RSA_BITS = 2048
_MAX_BYTES = 256 * 1024
_MAX_KEYS = 100
_FRESH_SECONDS = 600.0
# Tokens with unknown key names are free to make: they must not have us ask the issuer again and again.
_PAUSE_SECONDS = 10.0
_TIMEOUT = ClientTimeout(total=5)
_TRANSIENT = (ClientError, TimeoutError, OSError)


class KeyUnknown(Exception):
    """No key of this name is held; after `refresh` there may be one."""


class KeysUnavailable(Exception):
    """The key set cannot be had, and none is held."""


class KeySet:
    """The keys by name. `fetch` reads the document; failures leave what is held."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]]) -> None:
        self._fetch = fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def is_stale(self) -> bool:
        """Whether it is time to ask again, so that a revoked key is forgotten."""
        return monotonic() - self._asked_at >= _FRESH_SECONDS

    def find(self, kid: object, algorithm: str) -> jwt.PyJWK:
        """The key for a token's header. Raises `KeyUnknown`."""
        if self.is_stale or not isinstance(kid, str):
            raise KeyUnknown
        key = self._keys.get(kid)
        if key is None or key.algorithm_name != algorithm:
            raise KeyUnknown
        return key

    async def refresh(self) -> None:
        """Ask again, at most every ten seconds. Raises `KeysUnavailable` when there are no keys at all."""
        async with self._lock:
            if monotonic() - self._asked_at < _PAUSE_SECONDS:
                return
            try:
                self._keys = _usable(await self._fetch())
            except (*_TRANSIENT, RetryError, jsonio.JsonRefused, ValueError) as exc:
                log.warning("the key set of the token issuer cannot be read: %s", type(exc).__name__)
                if not self._keys:
                    raise KeysUnavailable from None
            self._asked_at = monotonic()


def from_file(path: Path) -> KeySet:
    """The keys of a file, read anew as it ages."""

    async def read() -> bytes:
        async with aiofiles.open(path, "rb") as file:
            return await file.read(_MAX_BYTES + 1)

    return KeySet(read)


def from_address(url: str, client: Callable[[], ClientSession]) -> KeySet:
    """The keys at an address; what fails for the moment is tried three times."""

    async def fetch() -> bytes:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(3), wait=wait_random_exponential(multiplier=0.2, max=2),
            retry=retry_if_exception_type(_TRANSIENT), reraise=True,
        )  # fmt: skip
        async for attempt in retrying:
            with attempt:
                return await _get(client(), url)
        raise KeysUnavailable  # pragma: no cover  the loop returns or raises

    return KeySet(fetch)


async def _get(client: ClientSession, url: str) -> bytes:
    async with client.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
        answer.raise_for_status()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        data = bytearray()
        async for chunk in answer.content.iter_chunked(64 * 1024):
            data += chunk
            if len(data) > _MAX_BYTES:
                raise ValueError("too large")
        return bytes(data)


def _usable(data: bytes) -> dict[str, jwt.PyJWK]:
    if len(data) > _MAX_BYTES:
        raise ValueError("too large")
    document = jsonio.loads_strict(data)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no key set")
    found = (_key(entry) for entry in listed[:_MAX_KEYS])
    return {key.key_id: key for key in found if key is not None and key.key_id}


def _key(entry: Any) -> jwt.PyJWK | None:
    """The key when it is a public one for signatures that we use; others belong to somebody else's purposes."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
    if algorithm is None or entry.get("alg", algorithm) != algorithm or not isinstance(entry.get("kid"), str):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    size = getattr(key.key, "key_size", 0)
    return key if size >= (MIN_RSA_BITS if algorithm == "RS256" else 256) else None
