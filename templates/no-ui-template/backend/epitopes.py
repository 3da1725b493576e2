"""Peptides: the bundled table of published epitopes, the user's own, and the two merged."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .contract import OwnPeptide

BUNDLED_TABLE = Path(__file__).parent / "data" / "epitopes.csv"
UNNAMED_PROTEIN = "not given"


@dataclass(frozen=True, slots=True)
class Peptide:
    """One peptide and the allele that presents it."""

    sequence: str
    allele: str
    protein: str
    organism: str | None = None
    reference: str | None = None
    note: str | None = None
    source: Literal["bundled", "own"] = "bundled"

    @property
    def length(self) -> int:
        """Number of residues."""
        return len(self.sequence)


def load_bundled(path: Path = BUNDLED_TABLE) -> list[Peptide]:
    """Read the table of published epitopes that ships with the module."""
    with path.open(encoding="utf-8", newline="") as table:
        return [_from_row(row) for row in csv.DictReader(table)]


def _from_row(row: Mapping[str, str]) -> Peptide:
    return Peptide(
        sequence=row["sequence"],
        allele=row["allele"],
        protein=row["protein"],
        organism=row["organism"],
        reference=row["reference"],
        note=row["note"] or None,
    )


def from_input(own: Iterable[OwnPeptide]) -> list[Peptide]:
    """Turn the user's validated peptides into the same shape as the bundled ones."""
    return [Peptide(each.sequence, each.allele, each.protein or UNNAMED_PROTEIN, source="own") for each in own]


def select(peptides: Iterable[Peptide], alleles: Sequence[str]) -> list[Peptide]:
    """Keep the peptides of these alleles; no alleles named means all of them."""
    wanted = set(alleles)
    return [peptide for peptide in peptides if not wanted or peptide.allele in wanted]


def distinct(peptides: Iterable[Peptide]) -> list[Peptide]:
    """Keep the first of each sequence and allele pair, so that no peptide weighs twice in a frequency."""
    first: dict[tuple[str, str], Peptide] = {}
    for peptide in peptides:
        first.setdefault((peptide.sequence, peptide.allele), peptide)
    return list(first.values())
