"""The science: lengths, anchor residues and counts. Pure functions of peptides, no SDK, no files.

Class I molecules hold most ligands of 8 to 11 residues by two pockets: the B pocket takes the second residue
(P2) and the F pocket the last one (PΩ). Longer peptides often bulge or slide, so anchors are read from 8-11mers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .contract import AlleleAnchors, LengthCount, ProteinCount, ResidueShare
from .epitopes import Peptide

ANCHOR_LENGTHS = range(8, 12)  # residues
ANCHOR_INDEX: Mapping[str, int] = {"p2": 1, "c_term": -1}


def has_anchors(peptide: Peptide) -> bool:
    """Tell whether P2 and PΩ of this peptide are read as anchors."""
    return peptide.length in ANCHOR_LENGTHS


def length_distribution(peptides: Iterable[Peptide]) -> list[LengthCount]:
    """Count peptides per length in residues, from the shortest to the longest seen, gaps as 0."""
    counts = Counter(peptide.length for peptide in peptides)
    if not counts:
        return []
    return [LengthCount(length=length, count=counts[length]) for length in range(min(counts), max(counts) + 1)]


def residue_shares(residues: Iterable[str]) -> list[ResidueShare]:
    """Count residues and give each its share (0 to 1), most frequent first, ties in alphabetical order."""
    counts = Counter(residues)
    total = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [ResidueShare(residue=aa, count=count, frequency=round(count / total, 4)) for aa, count in ranked]


def allele_anchors(allele: str, peptides: Sequence[Peptide]) -> AlleleAnchors:
    """Summarise the peptides of one allele."""
    anchored = [peptide.sequence for peptide in peptides if has_anchors(peptide)]
    shares = {name: residue_shares(seq[index] for seq in anchored) for name, index in ANCHOR_INDEX.items()}
    return AlleleAnchors(
        allele=allele,
        peptides=len(peptides),
        anchored_peptides=len(anchored),
        lengths=length_distribution(peptides),
        **shares,
    )


def anchors_by_allele(peptides: Iterable[Peptide]) -> list[AlleleAnchors]:
    """Summarise every allele, sorted by name."""
    groups: defaultdict[str, list[Peptide]] = defaultdict(list)
    for peptide in peptides:
        groups[peptide.allele].append(peptide)
    return [allele_anchors(allele, groups[allele]) for allele in sorted(groups)]


def protein_counts(peptides: Iterable[Peptide]) -> list[ProteinCount]:
    """Count peptides per source protein and organism, most first, ties in alphabetical order."""
    counts = Counter((peptide.protein, peptide.organism or "") for peptide in peptides)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [ProteinCount(protein=name, organism=organism or None, peptides=n) for (name, organism), n in ranked]
