"""The dependency lock of a published source: complete, hashed, and true to requirements.txt (wire-contract B.5)."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator

import attrs
from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from devkit_api.errors import DependencyLockInvalid

REQUIREMENTS, LOCK = "backend/requirements.txt", "backend/requirements.lock.txt"
MAX_BYTES = 4 * 1024 * 1024
SDK = "hla-compass"
# The wheel the platform takes, by version: of what is published, and not a setting.
SDK_WHEELS = {
    "6.0.2": "01f9ec70f4a66e253f247ddd4db61f879d091af03bd587c777ba51df4cfd76c3",  # pragma: allowlist secret
}
_HASH = re.compile(r"--hash[= ](\S+)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_WARNINGS = 20


@attrs.frozen
class Entry:
    """One requirement with the SHA-256 hashes written behind it."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def name(self) -> str:
        """The normalised name."""
        return canonicalize_name(self.requirement.name)

    @property
    def key(self) -> tuple[str, tuple[str, ...], str]:
        """What a line of requirements.txt and its line of the lock have in common."""
        extras = tuple(sorted(canonicalize_name(extra) for extra in self.requirement.extras))
        return (self.name, extras, str(self.requirement.marker or ""))

    @property
    def pinned(self) -> str | None:
        """The one version it allows, or None."""
        specifiers = list(self.requirement.specifier)
        if len(specifiers) != 1 or specifiers[0].operator not in {"==", "==="} or "*" in specifiers[0].version:
            return None
        return str(specifiers[0].version)


def publishing_sdk() -> dict[str, str]:
    """Version and wheel checksum of the SDK that published modules are locked to."""
    version = importlib.metadata.version(SDK)
    # A newer SDK than the devkit knows of cannot be vouched for; the last known one can.
    known = version if version in SDK_WHEELS else max(SDK_WHEELS)
    return {"version": known, "wheelSha256": SDK_WHEELS[known]}


def check_lock(requirements: bytes | None, lock: bytes | None) -> tuple[str, ...]:
    """What a user should know of a good lock. Raises `DependencyLockInvalid` with the first thing wrong with it."""
    wanted = list(_entries(REQUIREMENTS, requirements))
    locked = list(_entries(LOCK, lock))
    for entry in locked:
        if not entry.hashes:
            raise DependencyLockInvalid(reason=f"{entry.name[:80]} has no sha256 hash in {LOCK}")
        if entry.pinned is None and entry.requirement.url is None:
            raise DependencyLockInvalid(reason=f"{entry.name[:80]} is not pinned to one version in {LOCK}")
    _check_sdk(REQUIREMENTS, wanted)
    sdk = _check_sdk(LOCK, locked)
    if publishing_sdk()["wheelSha256"] not in sdk.hashes:
        raise DependencyLockInvalid(reason=f"it does not list the published wheel of {SDK} {sdk.pinned}")
    for entry in wanted:
        if not any(_meets(entry, candidate) for candidate in locked if candidate.key == entry.key):
            raise DependencyLockInvalid(reason=f"it does not hold {str(entry.requirement)[:80]} of {REQUIREMENTS}")
    return tuple(_differences(locked))


def _check_sdk(file: str, entries: list[Entry]) -> Entry:
    version = publishing_sdk()["version"]
    found = [entry for entry in entries if entry.name == SDK]
    if len(found) != 1 or found[0].requirement.marker or found[0].requirement.url or found[0].pinned != version:
        raise DependencyLockInvalid(reason=f"{file} must pin {SDK}=={version} exactly once")
    return found[0]


def _meets(wanted: Entry, locked: Entry) -> bool:
    if wanted.requirement.url is not None or locked.requirement.url is not None:
        return wanted.requirement.url == locked.requirement.url
    return locked.pinned is not None and wanted.requirement.specifier.contains(locked.pinned, prereleases=True)


def _entries(file: str, data: bytes | None) -> Iterator[Entry]:
    if data is None:
        raise DependencyLockInvalid(reason=f"the source has no {file}")
    if len(data) > MAX_BYTES:
        raise DependencyLockInvalid(reason=f"{file} is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise DependencyLockInvalid(reason=f"{file} is not UTF-8") from None
    for number, line in enumerate(re.sub(r"\\\r?\n[ \t]*", " ", text).splitlines(), start=1):
        written = re.sub(r"(^|\s)#.*", "", line).strip()
        if written:
            yield _entry(file, number, written)


def _entry(file: str, number: int, written: str) -> Entry:
    hashes = _HASH.findall(written)
    if any(not _SHA256.fullmatch(found) for found in hashes):
        raise DependencyLockInvalid(reason=f"entry {number} of {file} has a hash that is not sha256 in hex")
    rest = _HASH.sub("", written).strip()
    try:
        requirement = Requirement(rest)
    except InvalidRequirement:
        raise DependencyLockInvalid(reason=f"entry {number} of {file} is not a plain requirement") from None
    return Entry(requirement, frozenset(found.removeprefix("sha256:") for found in hashes))


def _differences(locked: list[Entry]) -> Iterator[str]:
    """Packages that this devkit's Python has otherwise than the lock: the module runs with what is here."""
    found = 0
    for entry in locked:
        if not _applies_here(entry) or entry.pinned is None:
            continue
        try:
            here = importlib.metadata.version(entry.name)
        except importlib.metadata.PackageNotFoundError:
            here = ""
        if here == entry.pinned:
            continue
        found += 1
        if found > _MOST_WARNINGS:
            yield "and more"
            return
        yield f"{entry.name} {entry.pinned} is locked, and {here or 'none'} is in the devkit's own Python"


def _applies_here(entry: Entry) -> bool:
    try:
        return entry.requirement.marker is None or entry.requirement.marker.evaluate()
    except UndefinedEnvironmentName:
        return False
