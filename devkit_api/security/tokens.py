"""Run tokens and URL signatures: HMAC-SHA256 over named fields with keys derived from one secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import attrs

from devkit_api.ids import RUN_ID

# The SDK builds its storage client only for keys with this prefix (wire-contract 0.2).
RUN_TOKEN_PREFIX = "hla_runtoken_"  # noqa: S105  a prefix, not a token
_TOKEN = re.compile(rf"{RUN_TOKEN_PREFIX}({RUN_ID.pattern})~([0-9a-f]{{16}})~([A-Za-z0-9_-]{{43}})")


@attrs.frozen
class RunToken:
    """A verified token: the run it is for and the serial the run document must still hold."""

    run_id: str
    serial: str


class Signer:
    """Signs and verifies. One derived key per purpose, so that a signature never serves another purpose."""

    def __init__(self, secret: str) -> None:
        self._keys = {
            purpose: hmac.digest(secret.encode(), f"hla-compass-devkit:{purpose}".encode(), "sha256")
            for purpose in ("run-token", "object-url", "source-upload")
        }

    def run_token(self, run_id: str, serial: str) -> str:
        """The token of one run; `serial` makes it revocable."""
        return f"{RUN_TOKEN_PREFIX}{run_id}~{serial}~{self._sign('run-token', run_id, serial)}"

    def verify_run_token(self, token: str) -> RunToken | None:
        """The token's content when its signature is right. Whether the run still takes it is for the caller."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        run_id, serial, signature = match.groups()
        expected = self._sign("run-token", run_id, serial)
        return RunToken(run_id, serial) if hmac.compare_digest(expected, signature) else None

    def object_signature(self, *fields: str) -> str:
        """Signature over the fields of an object address."""
        return self._sign("object-url", *fields)

    def object_signature_matches(self, signature: str, *fields: str) -> bool:
        """Constant-time check of an object address."""
        return hmac.compare_digest(self.object_signature(*fields).encode(), signature.encode())

    def upload_signature(self, *fields: str) -> str:
        """Signature over the fields of an address for a module's source."""
        return self._sign("source-upload", *fields)

    def upload_signature_matches(self, signature: str, *fields: str) -> bool:
        """Constant-time check of such an address."""
        return hmac.compare_digest(self.upload_signature(*fields).encode(), signature.encode())

    def _sign(self, purpose: str, *fields: str) -> str:
        # Length-prefixed: ("ab", "c") and ("a", "bc") must not sign alike.
        message = b"".join(f"{len(field.encode())}:".encode() + field.encode() for field in fields)
        digest = hmac.digest(self._keys[purpose], message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
