"""What must hold of an upload in parts before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from devkit_api.errors import UploadConflict, UploadInvalid
from devkit_api.objects.protocol import ObjectInfo, Part
from devkit_api.objects.uploads.models import Upload


def in_state(upload: Upload, revision: int, *statuses: str) -> None:
    """Whether it is where the caller thinks it is. Raises `UploadConflict`."""
    if upload.status not in statuses or upload.revision != revision:
        reason = f"this needs {' or '.join(map(repr, statuses))} at the revision you name"
        raise UploadConflict(status=upload.status, revision=upload.revision, reason=reason)


def check_parts(upload: Upload, parts: list[dict[str, Any]]) -> None:
    """Every part once, stored, and the very bytes the caller means. Raises `UploadInvalid`."""
    named = [(part["partNumber"], part["etag"].strip('"'), part["checksumSHA256"]) for part in parts]
    if [number for number, _, _ in named] != list(range(1, upload.part_count + 1)):
        raise UploadInvalid(reason=f"it has {upload.part_count} part(s), and each must be named once, in order")
    known = {part.number: (part.number, part.etag, part.sha256) for part in upload.parts}
    for one in named:
        if known.get(one[0]) != one:
            raise UploadInvalid(reason=f"part {one[0]} is not stored with this etag and checksum")


def with_checksums(found: Iterable[Part], known: Iterable[Part]) -> tuple[Part, ...]:
    """The stored parts. Where the store does not tell a checksum, the etag does; what neither tells is sent again."""
    sha256s = {(part.number, part.etag): part.sha256 for part in known}
    told = (attrs.evolve(part, sha256=part.sha256 or sha256s.get((part.number, part.etag), "")) for part in found)
    return tuple(part for part in told if part.sha256)


def is_file_of(upload: Upload, info: ObjectInfo) -> bool:
    """Whether a stored file is what these parts make, as far as can be told without reading it."""
    sha256 = upload.parts[0].sha256 if len(upload.parts) == 1 else ""  # of several, none is that of the whole
    return info.size == upload.size and (not sha256 or info.sha256 in {"", sha256})
