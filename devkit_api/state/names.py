"""What a document may be called, where it is in a folder, and how it becomes bytes: the same for every backend."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

from devkit_api import jsonio
from devkit_api.state.store import Document, StateError

# Documents that files or other documents belong to. Besides them there are sign-ins and the probe of health.
COLLECTIONS = ("deployments", "modules", "plans", "publications", "runs", "uploads")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,250}")


def is_name(text: str) -> bool:
    """Whether it can name a document or a collection."""
    return bool(_KEY.fullmatch(text))


def checked(collection: str, key: str) -> tuple[str, str]:
    """Both, when they are plain names. Raises `StateError`."""
    if not is_name(key) or not is_name(collection):
        raise StateError("a document key is not a plain name")
    return collection, key


def dumped(collection: str, key: str, document: Document) -> bytes:
    """The document as JSON. Raises `StateError`."""
    try:
        return jsonio.dumps(document)
    except TypeError as exc:
        raise StateError(f"document {collection}/{key} is not JSON") from exc


def place_of(collection: str, key: str) -> PurePosixPath:
    """`<collection>/<two hex digits>/<key>.json`, as files and in exports."""
    shard = hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
    return PurePosixPath(collection, shard, f"{key}.json")
