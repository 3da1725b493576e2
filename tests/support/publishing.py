"""What the SDK does when it publishes, step by step, so that a test can do one step wrong; and an index for locks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from devkit_api.modules.publish.lockfile import SDK_WHEELS
from tests.support.modules import write_module

SDK_WHEEL = SDK_WHEELS["6.0.2"]
LOCK = f"hla-compass==6.0.2 \\\n    --hash=sha256:{SDK_WHEEL}\n"


@cache
def signing_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def sign(manifest: dict[str, Any], key: rsa.RSAPrivateKey | None = None) -> dict[str, Any]:
    """The manifest as the SDK sends it."""
    key = key or signing_key()
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        **manifest,
        "signature": base64.b64encode(key.sign(data, pss, hashes.SHA256())).decode(),
        "publicKey": base64.b64encode(der).decode(),
        "keyFingerprint": base64.b64encode(hashlib.sha256(der).digest()).decode(),
        "signatureAlgorithm": "RSA-PSS",
        "hashAlgorithm": "SHA-256",
    }


def write_publishable(folder: Path, *arguments: str, **changes: Any) -> Path:
    """A small module with a lock that passes."""
    write_module(folder, *arguments, **changes)
    (folder / "backend" / "requirements.lock.txt").write_text(LOCK)
    return folder


def pack(folder: Path, extra: dict[str, bytes] | None = None) -> bytes:
    """The folder as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder).as_posix())
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def request_of(folder: Path, archive: bytes, **changes: Any) -> dict[str, Any]:
    """The body of the grant request."""
    return {
        "manifest": sign(json.loads((folder / "manifest.json").read_text())),
        "scope": "org",
        "idempotencyKey": str(uuid.uuid4()),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "sizeBytes": len(archive),
        **changes,
    }


def submission(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body of the submission that belongs to a grant request."""
    kept = {name: value for name, value in asked.items() if name not in {"sha256", "sizeBytes"}}
    return {**kept, "sourceUpload": {"sha256": asked["sha256"], "sizeBytes": asked["sizeBytes"]}, **changes}


@contextmanager
def simple_index(packages: dict[str, tuple[str, str]]) -> Iterator[str]:
    """A package index on loopback: name -> version and wheel hash. It serves metadata alone, never a wheel."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").split("/")[0]
            version, digest = packages.get(name, ("", ""))
            wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
            if not version:
                self.send_error(404)
            elif self.path.endswith(".metadata"):
                self._send(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "text/plain")
            elif self.path.endswith("/"):
                link = f'<a href="/{name}/{wheel}#sha256={digest}" data-core-metadata="true">{wheel}</a>'
                self._send(f"<!DOCTYPE html><html><body>{link}</body></html>", "text/html")
            else:
                self.send_error(404)

        def _send(self, text: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
