"""The waiting line: fair across modules, first come first served within one."""

from __future__ import annotations

from collections import OrderedDict, deque


class FairQueue:
    """Run ids by module. `pop` takes from each module in turn, so a flood of one does not starve the others."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, module_id: str, run_id: str) -> None:
        """Add at the end of the module's line."""
        self._lines.setdefault(module_id, deque()).append(run_id)
        self._size += 1

    def pop(self) -> str | None:
        """The next run, or None."""
        if not self._lines:
            return None
        module_id, line = self._lines.popitem(last=False)
        run_id = line.popleft()
        self._size -= 1
        if line:
            self._lines[module_id] = line
        return run_id

    def remove(self, module_id: str, run_id: str) -> bool:
        """Take a run out of the line; False when it is not there."""
        line = self._lines.get(module_id)
        if line is None or run_id not in line:
            return False
        line.remove(run_id)
        self._size -= 1
        if not line:
            del self._lines[module_id]
        return True
