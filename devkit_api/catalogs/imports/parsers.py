"""Reading one value of a file: text of a CSV, or what Parquet holds. Empty is None; what does not fit raises
`ValueError` with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from devkit_api.catalogs.chemistry import allele

Parser = Callable[[Any], Any]

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_SEQUENCE = re.compile(r"[ACDEFGHIKLMNPQRSTUVWYX]{1,100}")
_ODD = re.compile(r"[^ACDEFGHIKLMNPQRSTUVWYX]")
_LEVELS = {"sb": "SB", "wb": "WB", "strong": "SB", "weak": "WB"}


def is_missing(raw: Any) -> bool:
    """No value: nothing, NaN, or a word for it."""
    if raw is None or (isinstance(raw, float) and math.isnan(raw)):
        return True
    return isinstance(raw, str) and raw.strip().lower() in _MISSING


def text(raw: Any) -> str:
    """Printable text of at most 500 characters."""
    value = str(raw).strip()
    if len(value) > 500 or not value.isprintable():
        raise ValueError("it must be printable text of at most 500 characters")
    return value


def sequence(raw: Any) -> str:
    """A peptide in one-letter codes."""
    value = str(raw).strip().upper()
    if not _SEQUENCE.fullmatch(value):
        odd = _ODD.search(value)
        raise ValueError(
            f"{odd[0]!r} is no amino acid; modifications belong in modified_sequence"
            if odd
            else "it must have 1 to 100 residues"
        )
    return value


def allele_name(raw: Any) -> str:
    """An HLA allele, as the nomenclature writes it."""
    found = allele(str(raw))
    if found is None:
        raise ValueError(f"{str(raw)[:40]!r} is no HLA allele as HLA-A*02:01 is (a serotype is not enough)")
    return found.name


def allele_list(raw: Any) -> str:
    """Alleles separated by `;`, `,` or blanks, joined by `;`."""
    items = raw if isinstance(raw, list) else re.split(r"[;,\s]+", str(raw).strip())
    return ";".join(dict.fromkeys(allele_name(item) for item in items if not is_missing(item)))


def text_list(raw: Any) -> str:
    """Texts separated by `;`."""
    items = raw if isinstance(raw, list) else str(raw).split(";")
    return ";".join(dict.fromkeys(text(item) for item in items if not is_missing(item)))


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Parser:
    """A finite number in `low..high`; `above`: larger than `low`."""

    def parse(raw: Any) -> float:
        try:
            value = float(raw)
        except (TypeError, ValueError):
            raise ValueError("it must be a number, with a point for decimals") from None
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            raise ValueError(_range(low, high, above))
        return value

    return parse


def _range(low: float, high: float, above: bool) -> str:
    if math.isinf(low):
        return "it must be a finite number"
    bound = f"above {low:g}" if above else f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
    return f"it must be a number {bound}"


def whole(low: int, high: int) -> Parser:
    """A whole number in `low..high`; `9.0` is one."""

    def parse(raw: Any) -> int:
        try:
            value = float(raw)
        except (TypeError, ValueError):
            value = math.nan
        if not value.is_integer() or not low <= value <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(value)

    return parse


def sex(raw: Any) -> str:
    """`female` or `male`, or their first letter."""
    found = {"f": "female", "female": "female", "m": "male", "male": "male"}.get(str(raw).strip().lower())
    if found is None:
        raise ValueError("it must be female or male, or empty")
    return found


def binding_level(raw: Any) -> str:
    """`SB` (strong) or `WB` (weak)."""
    found = _LEVELS.get(str(raw).strip().lower())
    if found is None:
        raise ValueError("it must be SB or WB, or empty")
    return found
