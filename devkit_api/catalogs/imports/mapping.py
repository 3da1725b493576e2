"""Which column of a file gives which field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from devkit_api.catalogs.imports.targets import Target
from devkit_api.errors import ImportUnreadable


@attrs.frozen
class Mapped:
    """Field -> position of its column, and the columns nobody asks for."""

    positions: dict[str, int]
    ignored: list[str]


def map_columns(
    file: str, target: Target, columns: Sequence[str], given: Mapping[str, str], constants: Mapping[str, str]
) -> Mapped:
    """Given names first, then columns named like the field or one of its aliases. Raises `ImportUnreadable`."""
    for name in (*given, *constants):
        if name not in target.by_name:
            known = ", ".join(target.by_name)
            raise ImportUnreadable(file=file, reason=f"{target.table} has no field {name[:60]!r}; it has {known}")
    lowered = {_plain(column): position for position, column in enumerate(columns)}
    positions: dict[str, int] = {}
    for field, column in given.items():
        if _plain(column) not in lowered:
            listed = ", ".join(columns)[:300]
            raise ImportUnreadable(file=file, reason=f"it has no column {column[:60]!r}; it has {listed}")
        positions[field] = lowered[_plain(column)]
    for field_ in target.fields:
        if field_.name in positions or field_.name in constants:
            continue
        found = [lowered[name] for name in (field_.name, *field_.aliases) if name in lowered]
        taken = set(positions.values())
        free = [position for position in found if position not in taken]
        if free:
            positions[field_.name] = free[0]
    _check_complete(file, target, {*positions, *constants})
    used = set(positions.values())
    return Mapped(positions, [column for position, column in enumerate(columns) if position not in used])


def _check_complete(file: str, target: Target, found: set[str]) -> None:
    missing = [field.name for field in target.fields if field.required and field.name not in found]
    if missing:
        reason = f"no column gives {', '.join(missing)} of {target.table}; name one with a column mapping"
        raise ImportUnreadable(file=file, reason=reason)
    if target.one_of and not found & set(target.one_of):
        raise ImportUnreadable(file=file, reason=f"no column gives {' or '.join(target.one_of)} of {target.table}")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
