"""Source archives on their way in: signed addresses for them, and the files until they have been examined."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from aiofiles.os import wrap

from devkit_api.atomic import fsync_folder, make_folder_durable
from devkit_api.errors import BodyInvalid, SignatureInvalid
from devkit_api.objects.file_receive import part_file, receive
from devkit_api.objects.protocol import Expected
from devkit_api.security.tokens import Signer

GRANT_SECONDS = 900
PATH = "/v1/modules/publish/uploads"
SIGNATURE = "Signature"
_AT_ONCE = 2


class Uploads:
    """`<root>/<publish id>.zip`; a file is there whole or not at all."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self._root = root
        self._signer = signer
        self._running: Counter[str] = Counter()

    def path(self, publish_id: str) -> Path:
        """Where the archive is, or will be."""
        return self._root / f"{publish_id}.zip"

    def has(self, publish_id: str) -> bool:
        """Whether the archive has arrived."""
        return self.path(publish_id).is_file()

    def url(self, base_url: str, publish_id: str, expires: int, sha256: str, size: int) -> str:
        """The address for one archive, good until `expires`."""
        fields = (str(expires), str(size), sha256)
        query = dict(zip(("Expires", "Size", "Sha256"), fields, strict=True))
        query[SIGNATURE] = self._signer.upload_signature(publish_id, *fields)
        return f"{base_url}{PATH}/{publish_id}?{urlencode(query)}"

    def check(self, publish_id: str, query: Mapping[str, str]) -> tuple[str, int]:
        """SHA-256 and size the address is for. Raises `SignatureInvalid`."""
        fields = [query.get(name, "") for name in ("Expires", "Size", "Sha256")]
        if not self._signer.upload_signature_matches(query.get(SIGNATURE, ""), publish_id, *fields):
            raise SignatureInvalid(reason="it was altered, or is for another purpose")
        if int(fields[0]) < time.time():
            raise SignatureInvalid(reason="it has expired")
        return fields[2], int(fields[1])

    async def receive(self, publish_id: str, chunks: AsyncIterator[bytes], sha256: str, size: int) -> None:
        """Store the archive. Raises `ChecksumMismatch`, `SignatureInvalid` or `StateError`, with nothing stored."""
        if self._running[publish_id] >= _AT_ONCE:
            raise SignatureInvalid(reason="it is being used already")
        self._running[publish_id] += 1
        try:
            async with part_file(self._root, "the source could not be stored") as temporary:
                await receive(temporary, chunks, Expected(size, sha256))
                await _commit(temporary, self.path(publish_id))
        finally:
            self._running[publish_id] -= 1
            self._running += Counter()  # forgets those at zero

    async def discard(self, publish_id: str) -> None:
        """Remove the archive; a missing one is fine."""
        await _unlink(self.path(publish_id))

    async def sweep(self, known: set[str]) -> None:
        """Make the folder, and remove what an unclean stop or an expired grant left in it."""
        await _sweep(self._root, known)


@wrap
def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoded(text: str) -> bytes:
    """An archive that came inside JSON. Raises `BodyInvalid`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BodyInvalid(reason="sourceZipBase64 is not base64") from None


@wrap
def _commit(temporary: Path, target: Path) -> None:
    temporary.replace(target)
    fsync_folder(target.parent)


@wrap
def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


@wrap
def _sweep(root: Path, known: set[str]) -> None:
    make_folder_durable(root)
    for path in [*root.glob(".*.part"), *root.glob("*.zip")]:
        if path.suffix == ".part" or path.stem not in known:
            path.unlink(missing_ok=True)
