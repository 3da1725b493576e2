"""The manifest's signature (wire-contract B.4): RSA-PSS over the manifest without its signature fields."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from devkit_api.errors import SignatureMismatch

SIGNATURE_KEYS = frozenset(
    {"signature", "publicKey", "public_key", "signatureAlgorithm", "signature_algorithm", "hashAlgorithm",
     "hash_algorithm", "keyFingerprint", "key_fingerprint"}
)  # fmt: skip
# The platform writes this one itself.
UNSIGNED_KEYS = SIGNATURE_KEYS | {"integrity"}
_ALGORITHMS = {"signatureAlgorithm": "RSA-PSS", "hashAlgorithm": "SHA-256"}
_KEY_BITS = (2048, 8192)
_LONGEST = 16 * 1024


def verify(manifest: dict[str, Any]) -> str:
    """The fingerprint of the key that signed `manifest`. Raises `SignatureMismatch`."""
    for name, expected in _ALGORITHMS.items():
        if manifest.get(name) != expected:
            raise SignatureMismatch(reason=f"{name} must be {expected}")
    der = _decoded(manifest, "publicKey")
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    if not hmac.compare_digest(fingerprint.encode(), str(manifest.get("keyFingerprint")).encode()):
        raise SignatureMismatch(reason="keyFingerprint is not that of publicKey")
    scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    try:
        _key(der).verify(_decoded(manifest, "signature"), _signed_bytes(manifest), scheme, hashes.SHA256())
    except InvalidSignature:
        raise SignatureMismatch(reason="the manifest was changed after it was signed, or by another key") from None
    return fingerprint


def unsigned(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest without what signing added to it."""
    return {name: value for name, value in manifest.items() if name not in UNSIGNED_KEYS}


def _signed_bytes(manifest: dict[str, Any]) -> bytes:
    signed = unsigned(manifest)
    _refuse_reserved(signed)
    return json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()


def _refuse_reserved(value: Any) -> None:
    """What is signed must not look like a signature: readers would leave it out."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name in SIGNATURE_KEYS:
                raise SignatureMismatch(reason=f"{name} may stand at the top of the manifest only")
            _refuse_reserved(below)
    elif isinstance(value, list):
        for below in value:
            _refuse_reserved(below)


def _decoded(manifest: dict[str, Any], name: str) -> bytes:
    text = manifest.get(name)
    if not isinstance(text, str) or not text:
        raise SignatureMismatch(reason=f"{name} is missing")
    if len(text) > _LONGEST:
        raise SignatureMismatch(reason=f"{name} is too long")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureMismatch(reason=f"{name} is not base64") from None


def _key(der: bytes) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureMismatch(reason="publicKey is not a key in DER form") from None
    low, high = _KEY_BITS
    if not isinstance(key, rsa.RSAPublicKey) or not low <= key.key_size <= high:
        raise SignatureMismatch(reason=f"publicKey is not an RSA key of {low} to {high} bits")
    return key
