"""What the file store knows of one namespace, in memory and on disk."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from pathlib import Path

from devkit_api import jsonio
from devkit_api.objects.protocol import Listed, ObjectInfo


class NamespaceIndex:
    """Files by name, and their names in order: sorted once, and again only after a new name or a lost one."""

    def __init__(self, infos: dict[str, ObjectInfo]) -> None:
        self._infos = infos
        self._names: list[str] | None = None

    def get(self, name: str) -> ObjectInfo | None:
        """What is known of a file."""
        return self._infos.get(name)

    def set(self, info: ObjectInfo) -> None:
        """Note a file."""
        if info.name not in self._infos:
            self._names = None
        self._infos[info.name] = info

    def pop(self, name: str) -> ObjectInfo | None:
        """Forget a file; what it was."""
        self._names = None
        return self._infos.pop(name, None)

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[Listed], str | None]:
        """See `ObjectStore.list`."""
        if self._names is None:
            self._names = sorted(self._infos)
        names = self._names
        start = bisect_left(names, prefix)
        if after:
            start = max(start, bisect_right(names, after))
        shown = [name for name in names[start : start + limit] if name.startswith(prefix)]
        end = start + limit
        more = len(shown) == limit and end < len(names) and names[end].startswith(prefix)
        return [self._infos[name] for name in shown], shown[-1] if more else None


def digest(name: str) -> str:
    """The name of a file as a part of a path."""
    return hashlib.sha256(name.encode()).hexdigest()


def load_index(folder: Path) -> NamespaceIndex:
    """Read a namespace; what is not a description written by the devkit is left out."""
    infos = {}
    for path in folder.glob("*.json"):
        try:
            info = ObjectInfo(**jsonio.loads_trusted(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        if not isinstance(info.name, str) or not isinstance(info.size, int) or digest(info.name) != path.stem:
            continue
        infos[info.name] = info
    return NamespaceIndex(infos)
