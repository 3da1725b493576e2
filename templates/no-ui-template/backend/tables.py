"""The two CSV files of a run, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from .analysis import ANCHOR_INDEX, has_anchors
from .contract import AlleleAnchors
from .epitopes import Peptide

PEPTIDE_COLUMNS = (
    "sequence",
    "allele",
    "length",
    "p2",
    "c_term",
    "protein",
    "organism",
    "source",
    "reference",
    "note",
)
ANCHOR_COLUMNS = ("allele", "anchor", "residue", "count", "frequency", "anchored_peptides")


def spreadsheet_safe(value: object) -> object:
    """Quote text that a spreadsheet would run as a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def peptide_table(peptides: Iterable[Peptide]) -> str:
    """Write one row per peptide; `p2` and `c_term` stay empty where anchors are not read."""
    return _csv(PEPTIDE_COLUMNS, (_peptide_row(peptide) for peptide in peptides))


def anchor_table(alleles: Iterable[AlleleAnchors]) -> str:
    """Write one row per allele, anchor and residue; `frequency` is a share from 0 to 1."""
    rows = (
        (entry.allele, anchor, share.residue, share.count, share.frequency, entry.anchored_peptides)
        for entry in alleles
        for anchor in ANCHOR_INDEX
        for share in getattr(entry, anchor)
    )
    return _csv(ANCHOR_COLUMNS, rows)


def _peptide_row(peptide: Peptide) -> Sequence[object]:
    anchors = {name: peptide.sequence[i] if has_anchors(peptide) else None for name, i in ANCHOR_INDEX.items()}
    return [anchors[column] if column in anchors else getattr(peptide, column) for column in PEPTIDE_COLUMNS]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([spreadsheet_safe(cell) for cell in row] for row in rows)
    return buffer.getvalue()
