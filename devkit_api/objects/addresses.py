"""Where clients read and write an object: at the devkit, or at the store itself when that serves them."""

from __future__ import annotations

import base64
from typing import Any

import attrs

from devkit_api.objects.protocol import DirectPut, Expected, ObjectInfo, ObjectStore
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.public_address import PublicAddress
from devkit_api.runs.models import Run
from devkit_api.security.principals import Principal

GET_SECONDS = 900
PUT_SECONDS = 300


@attrs.frozen
class Addresses:
    """Short-lived addresses, each for one purpose; with `is_inside` they are for processes of the devkit's own runs."""

    store: ObjectStore
    urls: UrlSigner
    address: PublicAddress
    is_inside: bool = False

    def for_process(self, run: Run) -> Addresses:
        """The same for whoever executes the run: the devkit, or a backend elsewhere."""
        return self if run.is_external else attrs.evolve(self, is_inside=True)

    def for_caller(self, run: Run, principal: Principal) -> Addresses:
        """The same for who asks about a run, which may be the run itself."""
        return self.for_process(run) if principal.run_id == run.run_id else self

    @property
    def _base_url(self) -> str:
        return self.address.runs_url if self.is_inside else self.address.base_url

    async def get(self, namespace: str, info: ObjectInfo, seconds: int = GET_SECONDS) -> str:
        """An address to read this version of the object."""
        direct = await self.store.direct_get(namespace, info, seconds)
        if direct is not None:
            return direct
        return self.urls.get_url(self._base_url, namespace, info.name, seconds, info.version)

    async def put(self, namespace: str, name: str, expected: Expected, info: dict[str, Any]) -> DirectPut:
        """An address to store exactly the expected bytes, and the headers to send with them."""
        direct = await self.store.direct_put(namespace, name, expected, info, PUT_SECONDS)
        if direct is not None:
            return direct
        url = self.urls.put_url(self._base_url, namespace, name, seconds=PUT_SECONDS, expected=expected, info=info)
        checksum = base64.b64encode(bytes.fromhex(expected.sha256)).decode()
        return DirectPut(url, {"x-amz-checksum-sha256": checksum, "Content-Type": info["content_type"]})
