"""What the file store knows of one namespace, in memory and on disk."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.objects.protocol import Listed, ObjectInfo

# Earlier versions of one file.
MAX_EARLIER = 10


@attrs.frozen
class Entry:
    """A file as it is, and the earlier versions that are kept, newest first."""

    info: ObjectInfo
    earlier: tuple[ObjectInfo, ...] = ()

    @property
    def versions(self) -> tuple[ObjectInfo, ...]:
        """All of them, newest first."""
        return (self.info, *self.earlier)

    @property
    def earlier_bytes(self) -> int:
        """What the earlier ones take."""
        return sum(info.size for info in self.earlier)

    def document(self) -> bytes:
        """The entry as it is stored."""
        return jsonio.dumps({**attrs.asdict(self.info), "earlier": [attrs.asdict(info) for info in self.earlier]})


class NamespaceIndex:
    """Files by name, and their names in order: sorted once, and again only after a new name or a lost one."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries
        self._names: list[str] | None = None
        self._earlier_bytes = sum(entry.earlier_bytes for entry in entries.values())

    def get(self, name: str) -> Entry | None:
        """What is known of a file."""
        return self._entries.get(name)

    def succeed(self, info: ObjectInfo, most_bytes: int) -> tuple[Entry, list[ObjectInfo]]:
        """The entry once `info` is the file, and the versions that then go; nothing is noted yet.

        The namespace keeps earlier versions of at most `most_bytes`. Bytes that are the new ones again are not kept.
        """
        known = self._entries.get(info.name)
        if known is None:
            return Entry(info), []
        kept: list[ObjectInfo] = []
        left = most_bytes - self._earlier_bytes + known.earlier_bytes
        for old in (old for old in known.versions if old.sha256 != info.sha256 and old.version != info.version):
            left -= old.size
            if left < 0 or len(kept) == MAX_EARLIER:
                break
            kept.append(old)
        staying = {info.version, *(old.version for old in kept)}
        return Entry(info, tuple(kept)), [old for old in known.versions if old.version not in staying]

    def set(self, entry: Entry) -> None:
        """Note a file."""
        known = self._entries.get(entry.info.name)
        if known is None:
            self._names = None
        self._earlier_bytes += entry.earlier_bytes - (known.earlier_bytes if known else 0)
        self._entries[entry.info.name] = entry

    def pop(self, name: str) -> Entry | None:
        """Forget a file; what it was."""
        self._names = None
        known = self._entries.pop(name, None)
        self._earlier_bytes -= known.earlier_bytes if known else 0
        return known

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[Listed], str | None]:
        """See `ObjectStore.list`."""
        if self._names is None:
            self._names = sorted(self._entries)
        names = self._names
        start = bisect_left(names, prefix)
        if after:
            start = max(start, bisect_right(names, after))
        shown = [name for name in names[start : start + limit] if name.startswith(prefix)]
        end = start + limit
        more = len(shown) == limit and end < len(names) and names[end].startswith(prefix)
        return [self._entries[name].info for name in shown], shown[-1] if more else None


def digest(name: str) -> str:
    """The name of a file as a part of a path."""
    return hashlib.sha256(name.encode()).hexdigest()


def load_index(folder: Path) -> NamespaceIndex:
    """Read a namespace; what is not a description written by the devkit is left out."""
    entries = {}
    for path in folder.glob("*.json"):
        try:
            document: dict[str, Any] = jsonio.loads_trusted(path.read_bytes())
            earlier = tuple(ObjectInfo(**old) for old in document.pop("earlier", []))
            info = ObjectInfo(**document)
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        if not isinstance(info.name, str) or not isinstance(info.size, int) or digest(info.name) != path.stem:
            continue
        entries[info.name] = Entry(info, earlier)
    return NamespaceIndex(entries)
