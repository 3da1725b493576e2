"""Signed addresses of objects: for one method, one object, one moment, and for a put one content."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import attrs

from devkit_api import jsonio
from devkit_api.errors import SignatureInvalid
from devkit_api.objects.protocol import Expected
from devkit_api.security.tokens import Signer

PATH = "/v1/objects"
# The SDK's `runs status` masks a query parameter of exactly this name (wire-contract C.3).
SIGNATURE = "Signature"
MAX_SECONDS = 7 * 86_400


@attrs.frozen
class PutGrant:
    """A verified address for a put: what must arrive, and what is noted of it."""

    expected: Expected
    info: dict[str, Any]


class UrlSigner:
    """Makes and checks the addresses."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def get_url(self, base_url: str, namespace: str, name: str, seconds: int, version: str = "") -> str:
        """An address to read an object for `seconds`; with a version, that one content and no other."""
        expires = str(int(time.time()) + min(seconds, MAX_SECONDS))
        signature = self._signer.object_signature("GET", namespace, name, expires, version)
        bound = {"Version": version} if version else {}
        return _address(base_url, namespace, name, {"Expires": expires, **bound, SIGNATURE: signature})

    def put_url(
        self, base_url: str, namespace: str, name: str, *, seconds: int, expected: Expected, info: dict[str, Any]
    ) -> str:
        """An address to store exactly the expected bytes."""
        expires = str(int(time.time()) + seconds)
        noted = base64.urlsafe_b64encode(jsonio.canonical(info)).decode()
        fields = (expires, str(expected.size), expected.sha256, noted)
        signature = self._signer.object_signature("PUT", namespace, name, *fields)
        query = dict(zip(("Expires", "Size", "Sha256", "Info"), fields, strict=True))
        return _address(base_url, namespace, name, {**query, SIGNATURE: signature})

    def check_get(self, namespace: str, name: str, query: Mapping[str, str]) -> str:
        """The version the address is for, or "". Raises `SignatureInvalid` unless it is ours and still good."""
        version = query.get("Version", "")
        self._check(query, "GET", namespace, name, query.get("Expires", ""), version)
        return version

    def check_put(self, namespace: str, name: str, query: Mapping[str, str]) -> PutGrant:
        """What the address allows to store. Raises `SignatureInvalid`."""
        fields = [query.get(key, "") for key in ("Expires", "Size", "Sha256", "Info")]
        self._check(query, "PUT", namespace, name, *fields)
        info = jsonio.loads_trusted(base64.urlsafe_b64decode(fields[3]))
        return PutGrant(Expected(int(fields[1]), fields[2]), info)

    def _check(self, query: Mapping[str, str], method: str, namespace: str, name: str, *fields: str) -> None:
        signature = query.get(SIGNATURE, "")
        if not self._signer.object_signature_matches(signature, method, namespace, name, *fields):
            raise SignatureInvalid(reason="it was altered, or is for another purpose")
        if int(fields[0]) < time.time():
            raise SignatureInvalid(reason="it has expired")


def _address(base_url: str, namespace: str, name: str, query: dict[str, str]) -> str:
    return f"{base_url}{PATH}/{namespace}/{quote(name, safe='/')}?{urlencode(query)}"
