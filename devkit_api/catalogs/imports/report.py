"""What was wrong with the rows of an import, and how much of it."""

from __future__ import annotations

from typing import Any

import attrs

MAX_SHOWN = 100
_MAX_VALUE = 80


@attrs.frozen
class Problem:
    """One row that cannot be imported. Row 1 is the first below the header."""

    file: str
    row: int
    field: str
    reason: str
    value: str = ""

    def view(self) -> dict[str, Any]:
        """For JSON."""
        found = attrs.asdict(self)
        return found if self.value else {name: value for name, value in found.items() if name != "value"}

    def __str__(self) -> str:
        value = f" ({self.value!r})" if self.value else ""
        return f"{self.file}, row {self.row}, {self.field}{value}: {self.reason}"


@attrs.define
class SourceReport:
    """One file: how its columns were understood, and its rows."""

    file: str
    table: str
    columns: dict[str, str]
    ignored: list[str]
    rows: int = 0

    def view(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.file,
            "table": self.table,
            "columns": self.columns,
            "ignoredColumns": self.ignored,
            "rows": self.rows,
        }


@attrs.define
class Report:
    """All files of an import. Problems are counted without end and shown up to a limit."""

    sources: list[SourceReport] = attrs.Factory(list)
    shown: list[Problem] = attrs.Factory(list)
    count: int = 0

    def add(self, file: str, row: int, field: str, reason: str, value: Any = None) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(Problem(file, row, field, reason, "" if value is None else str(value)[:_MAX_VALUE]))

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(source.rows for source in self.sources)

    def view(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "sources": [source.view() for source in self.sources],
            "problems": {"count": self.count, "shown": [problem.view() for problem in self.shown]},
        }
