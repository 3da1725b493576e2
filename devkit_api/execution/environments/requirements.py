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
_HASH = re.compile(r"\s(--hash=\w+:[0-9a-fA-F]+)(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$")
# Where packages are found may be said in the file. Other files may not be named: they would be read as the devkit.
_WITH_VALUE = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--only-binary", "--trusted-host")
_ALONE = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")
_ADDRESS = re.compile(r"https?://[^?#]+\.whl(#.*)?", re.IGNORECASE)


class RequirementsRefused(Exception):
    """What the module asks for cannot be given; the text is for its author."""


@attrs.frozen
class Requirements:
    """`text` is what an environment is built from, `stated` what is checked.

    The text is put together from what was understood: the installer never reads the module's own file, in which it
    might see another line than we did.
    """

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
    lines = {
        name: list(_lines(text, name)) for name, text in ((_STATED, stated), (_LOCKED, locked)) if text is not None
    }
    checked = lines[_STATED if stated is not None else _LOCKED]
    built = lines[_LOCKED if locked is not None else _STATED]
    text = "".join(f"{line}\n" for _, line in built)
    return Requirements(text, tuple(item for item, _ in checked if item is not None))


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


def _lines(text: str, name: str) -> Iterator[tuple[Requirement | None, str]]:
    """What each line says: a requirement or an option, and the line the installer gets for it."""
    for line in text.replace("\\\n", " ").splitlines():
        hashes = _HASH.findall(line)
        wanted = _COMMENT.sub("", _HASH.sub("", line)).strip()
        if not wanted:
            continue
        option = _option(wanted)
        if option is not None:
            # Wheels only is what we ask for anyway, and `:none:` would undo it.
            if not option.startswith("--only-binary"):
                yield None, option
            continue
        item = _requirement(wanted, name)
        yield item, " ".join([str(item), *hashes])


def _option(wanted: str) -> str | None:
    """One option and nothing behind it; a `$` would be replaced by variables of the devkit."""
    words = wanted.replace("=", " ", 1).split()
    takes = len(words) == 2 and words[0] in _WITH_VALUE and not words[1].startswith("-")
    return " ".join(words) if "$" not in wanted and (takes or words in [[name] for name in _ALONE]) else None


def _requirement(wanted: str, name: str) -> Requirement:
    try:
        item = Requirement(wanted)
    except InvalidRequirement:
        raise RequirementsRefused(
            f"{name}: {wanted[:100]!r} is not a requirement such as 'numpy>=2.0'; other files and folders "
            "cannot be named there"
        ) from None
    if item.url is not None and ("$" in item.url or not _ADDRESS.fullmatch(item.url)):
        raise RequirementsRefused(
            f"{name}: {wanted[:100]!r} names no wheel at an http address, such as "
            "'name @ https://example.org/name-1.0-py3-none-any.whl'; packages are not built from source"
        )
    return item


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
