"""How well a peptide fits an anchor motif, and how often a random peptide fits as well.

Score: each primary anchor weighs 3, each secondary anchor 1. A preferred residue earns the whole weight, a tolerated
one half of it, a disfavoured one costs it, any other residue earns nothing. The sum is given as a percentage of what
a perfect peptide of that allele would earn, never below zero.

Background: because anchors are scored independently, the distribution of scores over random human peptides follows
exactly by convolving the positions; nothing is sampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backend.motifs import OMEGA, Anchor, Motif

PRIMARY_WEIGHT: Final = 3.0
SECONDARY_WEIGHT: Final = 1.0

# Amino-acid composition of the human reference proteome, in per cent (UniProtKB/Swiss-Prot).
HUMAN_COMPOSITION: Final[dict[str, float]] = {
    "A": 7.0, "C": 2.3, "D": 4.7, "E": 7.1, "F": 3.6, "G": 6.6, "H": 2.6, "I": 4.3, "K": 5.7, "L": 10.0,
    "M": 2.1, "N": 3.6, "P": 6.3, "Q": 4.8, "R": 5.6, "S": 8.3, "T": 5.4, "V": 6.0, "W": 1.2, "Y": 2.7,
}  # fmt: skip
AMINO_ACIDS: Final = "".join(HUMAN_COMPOSITION)


class Band(StrEnum):
    """The verdict in one word, decided by the primary anchors alone."""

    STRONG = "strong"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"


@dataclass(frozen=True)
class Match:
    """One peptide against one allele."""

    score: float
    band: Band
    anchors: str
    background_percent: float


def _weight(anchor: Anchor) -> float:
    return PRIMARY_WEIGHT if anchor.primary else SECONDARY_WEIGHT


def _points(anchor: Anchor, residue: str) -> float:
    if residue in anchor.preferred:
        return _weight(anchor)
    if residue in anchor.tolerated:
        return _weight(anchor) / 2
    return -_weight(anchor) if residue in anchor.disfavoured else 0.0


def _quality(anchor: Anchor, residue: str) -> str:
    if residue in anchor.preferred:
        return "preferred"
    return "tolerated" if residue in anchor.tolerated else "not in motif"


class Scorer:
    """Scores peptides against one motif; tables are prepared once, so a peptide costs a few look-ups."""

    def __init__(self, motif: Motif) -> None:
        self.motif = motif
        self._primary = [anchor for anchor in motif.anchors if anchor.primary]
        self._best = sum(_weight(anchor) for anchor in motif.anchors if anchor.preferred)
        self._tables = [
            (_index(anchor), {residue: _points(anchor, residue) for residue in AMINO_ACIDS}) for anchor in motif.anchors
        ]
        self._tail = _tail_of(table for _, table in self._tables)

    def match(self, peptide: str) -> Match:
        """Score one peptide of standard residues."""
        points = sum(table[peptide[index]] for index, table in self._tables)
        return Match(
            score=round(100 * max(0.0, points) / self._best, 1),
            band=self._band(peptide),
            anchors=", ".join(
                f"{anchor.label} {peptide[_index(anchor)]} {_quality(anchor, peptide[_index(anchor)])}"
                for anchor in self._primary
            ),
            background_percent=round(100 * self._tail[points], 3),
        )

    def _band(self, peptide: str) -> Band:
        residues = [(anchor, peptide[_index(anchor)]) for anchor in self._primary]
        if all(residue in anchor.preferred for anchor, residue in residues):
            return Band.STRONG
        if all(residue in anchor.preferred or residue in anchor.tolerated for anchor, residue in residues):
            return Band.POSSIBLE
        return Band.UNLIKELY


def _index(anchor: Anchor) -> int:
    return OMEGA if anchor.position == OMEGA else anchor.position - 1


def _tail_of(tables: Iterable[dict[str, float]]) -> dict[float, float]:
    """Exact probability, for every reachable sum of points, that a random peptide earns at least as many."""
    total = sum(HUMAN_COMPOSITION.values())
    distribution: dict[float, float] = {0.0: 1.0}
    for table in tables:
        spread: dict[float, float] = defaultdict(float)
        for points, probability in distribution.items():
            for residue, earned in table.items():
                spread[points + earned] += probability * HUMAN_COMPOSITION[residue] / total
        distribution = spread
    tail: dict[float, float] = {}
    running = 0.0
    for points in sorted(distribution, reverse=True):
        running += distribution[points]
        tail[points] = min(1.0, running)
    return tail
