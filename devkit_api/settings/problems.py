"""What is wrong with a configuration, each with the one step that fixes it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs


@attrs.frozen
class Problem:
    """One wrong value: the variable, why it is refused and the one step that fixes it."""

    variable: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.reason}. Fix: {self.fix}"


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))
