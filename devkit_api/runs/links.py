"""Signed addresses of a run's own documents, for a runner that executes elsewhere (wire-contract E.3)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlencode

import attrs

from devkit_api.errors import SignatureInvalid
from devkit_api.public_address import PublicAddress
from devkit_api.runs.models import Run
from devkit_api.security.tokens import Signer

READ, WRITTEN = ("payload", "context"), ("output", "summary")
PARTS = READ + WRITTEN
SECONDS = 900
# The SDK's `runs status` masks a query parameter of exactly this name (wire-contract C.3).
SIGNATURE = "Signature"


@attrs.frozen
class RunLinks:
    """Makes and checks the addresses."""

    signer: Signer
    address: PublicAddress

    def for_runner(self, run: Run) -> dict[str, str]:
        """Where the runner reads payload and context, and puts output and summary."""
        reads = {part: self._url("GET", run.run_id, part) for part in READ}
        return {**reads, **{part: self._url("PUT", run.run_id, part) for part in WRITTEN}}

    def for_reader(self, run: Run) -> dict[str, str]:
        """What whoever may see the run can read; never the context, which holds the run's token."""
        parts = ["payload", *(["output"] if run.has_output else []), *(["summary"] if run.summary else [])]
        return {part: self._url("GET", run.run_id, part) for part in parts}

    def check(self, method: str, run_id: str, part: str, query: Mapping[str, str]) -> None:
        """Raise `SignatureInvalid` unless the address is ours and still good."""
        expires = query.get("Expires", "")
        fields = ("RUN-LINK", method, run_id, part, expires)
        if not self.signer.object_signature_matches(query.get(SIGNATURE, ""), *fields):
            raise SignatureInvalid(reason="it was altered, or is for another purpose")
        if int(expires) < time.time():
            raise SignatureInvalid(reason="it has expired")

    def _url(self, method: str, run_id: str, part: str) -> str:
        expires = str(int(time.time()) + SECONDS)
        signature = self.signer.object_signature("RUN-LINK", method, run_id, part, expires)
        query = urlencode({"Expires": expires, SIGNATURE: signature})
        return f"{self.address.base_url}/v1/run-links/{run_id}/{part}?{query}"
