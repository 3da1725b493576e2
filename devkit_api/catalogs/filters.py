"""Parameters of the typed reads: what each takes, and the condition it stands for.

A condition is SQL text of this package with `%s` for values; no text of a request ever becomes SQL.
The same names come as JSON (POST) or as query text (GET), so every parser takes both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import attrs

from devkit_api.catalogs.chemistry import allele
from devkit_api.errors import QueryParameterInvalid

MAX_LIMIT = 10_000
MAX_IDS = 50_000
_BIG = 2**63 - 1


@attrs.frozen
class Condition:
    """A piece of a WHERE clause and its values."""

    text: str
    values: tuple[Any, ...] = ()


Parser = Callable[[str, Any], Any]
Builder = Callable[[Any], Condition]
# JSON Schema of what a made parser takes, for the API reference.
SHAPES: dict[Parser, dict[str, Any]] = {}


@attrs.frozen
class Filter:
    """One parameter: how its value is read and, for those that say which rows, what it asks of them."""

    parse: Parser
    condition: Builder
    on_observation: bool = False


def refuse(name: str, reason: str, allowed: Iterable[str] = ()) -> NoReturn:
    """Raise 400 INVALID_QUERY_PARAMETER."""
    details = {"parameter": name[:100], **({"allowed": sorted(allowed)} if allowed else {})}
    raise QueryParameterInvalid(name=name[:100], reason=reason, details=details)


def text(name: str, raw: Any) -> str:
    """Printable text of at most 500 characters."""
    value = raw.strip() if isinstance(raw, str) else ""
    if not value or len(value) > 500 or not value.isprintable():
        refuse(name, "it must be printable text of 1 to 500 characters")
    return value


def whole(low: int, high: int) -> Parser:
    """An integer in `low..high`, as a number or as digits."""

    def parse(name: str, raw: Any) -> int:
        digits = raw if isinstance(raw, str) else str(raw) if type(raw) is int else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19) or not low <= int(digits) <= high:
            refuse(name, f"it must be a whole number from {low} to {high}")
        return int(digits)

    SHAPES[parse] = {"type": "integer", "minimum": low, "maximum": high}
    return parse


def number(name: str, raw: Any) -> float:
    """A finite number."""
    try:
        value = float(raw) if isinstance(raw, (str, int, float)) and not isinstance(raw, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        refuse(name, "it must be a finite number")
    return value


def identities(name: str, raw: Any) -> list[int]:
    """Ids: a list, or texts separated by commas. Empty is refused: it must not read as no filter."""
    items = raw.split(",") if isinstance(raw, str) else raw if isinstance(raw, list) else [raw]
    if not items or len(items) > MAX_IDS:
        refuse(name, f"it must hold 1 to {MAX_IDS} ids")
    parse = whole(0, _BIG)
    return [parse(name, item.strip() if isinstance(item, str) else item) for item in items]


def choice(*allowed: str) -> Parser:
    """One of these words, whatever the case."""

    def parse(name: str, raw: Any) -> str:
        word = raw.strip().lower() if isinstance(raw, str) else ""
        if word not in allowed:
            refuse(name, "it must be one of " + ", ".join(allowed))
        return word

    SHAPES[parse] = {"type": "string", "enum": list(allowed)}
    return parse


def boolean(name: str, raw: Any) -> bool:
    """`true` or `false`: the SDK sends texts in both forms (wire-contract F.3)."""
    if isinstance(raw, bool):
        return raw
    return bool(choice("true", "false")(name, raw) == "true")


def allele_name(name: str, raw: Any) -> str:
    """An allele as catalogs spell it: normalised where the nomenclature knows it, else upper case with `HLA-`."""
    value = text(name, raw)
    known = allele(value)
    if known is not None:
        return known.name
    upper = value.upper()
    return upper if upper.startswith("HLA-") else f"HLA-{upper}"


ALLELE_IDS = "(SELECT allele_id FROM reference.hla_alleles WHERE allele_name = %s OR starts_with(allele_name, %s))"


def allele_values(name: str) -> tuple[str, str]:
    """Values of `ALLELE_IDS`: the allele itself, and the finer ones below it (`HLA-A*02` has `HLA-A*02:01`)."""
    return name, name + ":"


_WINDOW: dict[str, Parser] = {
    "limit": whole(1, MAX_LIMIT),
    "offset": whole(0, _BIG),
    "count": boolean,
    "version": text,
    "sort": text,
    "order": choice("asc", "desc"),
}
_ALIASES = {"sampleIds": "sample_ids", "peptideIds": "peptide_ids", "proteinIds": "protein_ids"}


@attrs.frozen
class Query:
    """A checked typed read."""

    filters: dict[str, Any]
    limit: int = 100
    offset: int = 0
    count: bool = True
    version: str | None = None
    sort: str | None = None
    descending: bool = False


def read_query(raw: Mapping[str, Any], filters: Mapping[str, Filter], sorts: Iterable[str]) -> Query:
    """Check every parameter; an unknown one is refused, as ignoring it would answer another question."""
    allowed = [*_WINDOW, *filters]
    window: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for given, value in raw.items():
        name = _ALIASES.get(given, given)
        if name not in allowed:
            refuse(given, "there is no such parameter", allowed)
        if name in asked or name in window:
            refuse(given, "it is given twice")
        if value is None:
            continue
        if name in _WINDOW:
            window[name] = _WINDOW[name](given, value)
        else:
            asked[name] = filters[name].parse(given, value)
    if "sort" in window and window["sort"] not in sorts:
        refuse("sort", "it must be one of " + ", ".join(sorts), sorts)
    window["descending"] = window.pop("order", "asc") == "desc"
    return Query(filters=asked, **window)
