"""Sequence-logo data: what residues the peptides assigned to an allele carry at each position.

Heights are Shannon information in bits with the small-sample correction of Schneider et al. (J Mol Biol
1986;188:415-431). A bootstrap over the peptides gives each position an interval, so a logo of six peptides
does not look as certain as one of six hundred.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

_STATES: Final = 20
_SMALLEST_SHOWN_SHARE: Final = 0.01
_PREFERRED_LENGTH: Final = 9


def modal_length(peptides: Sequence[str]) -> int:
    """The commonest length; nonamers win a tie, then the shorter."""
    counts = Counter(map(len, peptides))
    return min(counts, key=lambda length: (-counts[length], abs(length - _PREFERRED_LENGTH), length))


def information_bits(column: Sequence[str]) -> float:
    """Information content of one alignment column, corrected for its size, never below zero."""
    count = len(column)
    entropy = -sum(n / count * math.log2(n / count) for n in Counter(column).values())
    correction = (_STATES - 1) / (2 * math.log(2) * count)
    return max(0.0, math.log2(_STATES) - entropy - correction)


def build_logo(allele: str, peptides: Sequence[str], *, resamples: int, seed: int) -> dict[str, Any] | None:
    """Logo of the commonest length among `peptides`, or None when there is nothing to draw."""
    if not peptides:
        return None
    length = modal_length(peptides)
    aligned = [peptide for peptide in peptides if len(peptide) == length]
    columns = list(zip(*aligned, strict=True))
    intervals = _bootstrap(columns, resamples=resamples, seed=seed)
    return {
        "allele": allele,
        "length": length,
        "peptides": len(aligned),
        "positions": [
            _position(number, column, interval)
            for number, (column, interval) in enumerate(zip(columns, intervals, strict=True), start=1)
        ],
    }


def _position(number: int, column: Sequence[str], interval: tuple[float, float] | None) -> dict[str, Any]:
    bits = information_bits(column)
    residues = [
        {"residue": residue, "frequency": round(n / len(column), 4), "bits": round(bits * n / len(column), 4)}
        for residue, n in sorted(Counter(column).items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "position": number,
        "bits": round(bits, 4),
        "low": None if interval is None else round(interval[0], 4),
        "high": None if interval is None else round(interval[1], 4),
        "residues": [entry for entry in residues if entry["frequency"] >= _SMALLEST_SHOWN_SHARE],
    }


def _bootstrap(columns: list[tuple[str, ...]], *, resamples: int, seed: int) -> list[tuple[float, float] | None]:
    """95 % interval of the information content of each column; None where no resampling was asked for."""
    count = len(columns[0])
    if resamples == 0 or count < 2:
        return [None] * len(columns)
    generator = random.Random(seed)  # noqa: S311  # reproducible resampling, not cryptography
    draws: list[list[float]] = [[] for _ in columns]
    for _ in range(resamples):
        rows = generator.choices(range(count), k=count)
        for draw, column in zip(draws, columns, strict=True):
            draw.append(information_bits([column[row] for row in rows]))
    return [_interval(sorted(draw)) for draw in draws]


def _interval(ordered: list[float]) -> tuple[float, float]:
    last = len(ordered) - 1
    return ordered[round(0.025 * last)], ordered[round(0.975 * last)]
