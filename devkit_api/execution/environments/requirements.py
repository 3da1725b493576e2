"""What a module says it needs, and whether this interpreter has it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

_STATED, _LOCKED = "backend/requirements.txt", "backend/requirements.lock.txt"
_MAX_BYTES = 1024**2
_HASH = re.compile(r"\s--hash=\S+")
_COMMENT = re.compile(r"(^|\s)#.*$")
# Where packages are found may be said in the file. Other files may not be named: they would be read as the devkit.
_OPTIONS = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-index", "--only-binary", "--pre",
            "--prefer-binary", "--require-hashes", "--trusted-host")  # fmt: skip


class RequirementsRefused(Exception):
    """What the module asks for cannot be given; the text is for its author."""


@attrs.frozen
class Requirements:
    """`file` is what an environment is built from, `stated` what is checked."""

    file: Path
    text: str
    stated: tuple[Requirement, ...]

    def missing(self) -> list[str]:
        """Requirements this interpreter does not satisfy, as they were written."""
        return [str(item) for item in self.stated if not _is_satisfied(item)]


def read(source: Path) -> Requirements | None:
    """A module's requirements, or None when it has none. Raises `RequirementsRefused`."""
    _check_python(source)
    stated, locked = _text(source / _STATED), _text(source / _LOCKED)
    if stated is None and locked is None:
        return None
    name, text = (_STATED, stated) if stated is not None else (_LOCKED, locked or "")
    items = tuple(_requirements(text, name))
    if locked is not None:
        tuple(_requirements(locked, _LOCKED))
        return Requirements(source / _LOCKED, locked, items)
    return Requirements(source / name, text, items)


def _check_python(source: Path) -> None:
    for path in (source / "pyproject.toml", source / "backend" / "pyproject.toml"):
        try:
            wanted = tomllib.loads(_text(path) or "").get("project", {}).get("requires-python")
            if not wanted or SpecifierSet(str(wanted)).contains(platform.python_version(), prereleases=True):
                continue
        except (tomllib.TOMLDecodeError, AttributeError, InvalidSpecifier):
            continue  # it is the module's own affair; the SDK does not read it
        raise RequirementsRefused(
            f"the module needs Python {wanted} ({path.name}), and this devkit runs on {platform.python_version()}: "
            "install the devkit in an environment with that Python"
        )


def _text(path: Path) -> str | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RequirementsRefused(f"{path.name} is larger than 1 MiB")
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise RequirementsRefused(f"{path.name} cannot be read as text") from None


def _requirements(text: str, name: str) -> Iterator[Requirement]:
    for line in text.replace("\\\n", " ").splitlines():
        wanted = _COMMENT.sub("", _HASH.sub("", line)).strip()
        if not wanted or re.split(r"[\s=]", wanted)[0] in _OPTIONS:
            continue
        try:
            yield Requirement(wanted)
        except InvalidRequirement:
            raise RequirementsRefused(
                f"{name}: {wanted[:100]!r} is not a requirement such as 'numpy>=2.0'; other files and folders "
                "cannot be named there"
            ) from None


def _is_satisfied(wanted: Requirement) -> bool:
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return True
    try:
        found = importlib.metadata.distribution(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if wanted.url is not None or not wanted.specifier.contains(found.version, prereleases=True):
        return False
    return all(_has_extra(found, extra) for extra in wanted.extras)


def _has_extra(found: importlib.metadata.Distribution, extra: str) -> bool:
    """Whether what the extra adds is there; one level, as far as metadata says it plainly."""
    for text in found.requires or ():
        item = Requirement(text)
        if item.marker is None or item.marker.evaluate({"extra": ""}) or not item.marker.evaluate({"extra": extra}):
            continue
        item.marker = None
        if not _is_satisfied(item):
            return False
    return True
