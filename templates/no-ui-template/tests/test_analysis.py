"""Lengths, anchors and counts against known values and at the edges."""

from __future__ import annotations

import pytest
from backend.analysis import allele_anchors, anchors_by_allele, length_distribution, protein_counts, residue_shares
from backend.epitopes import Peptide, load_bundled

ALLELE = "HLA-A*02:01"


def peptides(*sequences: str) -> list[Peptide]:
    return [Peptide(sequence, ALLELE, "protein") for sequence in sequences]


@pytest.mark.parametrize(
    ("allele", "p2", "c_term"),
    [
        ("HLA-A*02:01", "LM", "VL"),
        ("HLA-A*24:02", "YM", "FL"),
        ("HLA-B*07:02", "P", "LIM"),
        ("HLA-B*27:05", "R", "FKLR"),
        ("HLA-B*57:01", "SA", "WF"),
    ],
)
def test_published_epitopes_show_the_known_motif(allele, p2, c_term):
    entry = next(entry for entry in anchors_by_allele(load_bundled()) if entry.allele == allele)
    assert "".join(share.residue for share in entry.p2[: len(p2)]) == p2
    assert "".join(share.residue for share in entry.c_term[: len(c_term)]) == c_term


def test_a0201_counts_by_hand():
    entry = allele_anchors(ALLELE, [row for row in load_bundled() if row.allele == ALLELE])
    assert entry.peptides == entry.anchored_peptides == 14
    assert {share.residue: share.count for share in entry.p2} == {"L": 11, "M": 2, "I": 1}
    assert {share.residue: share.count for share in entry.c_term} == {"V": 8, "L": 5, "C": 1}


def test_frequencies_add_up_to_one():
    for entry in anchors_by_allele(load_bundled()):
        for shares in (entry.p2, entry.c_term):
            if entry.anchored_peptides:
                assert sum(share.frequency for share in shares) == pytest.approx(1, abs=0.001)
                assert sum(share.count for share in shares) == entry.anchored_peptides


def test_only_8_to_11mers_have_anchors():
    entry = allele_anchors(ALLELE, peptides("ACDEFGHI", "AYDEFGHIKLW", "AWDEFGHIKLMN"))
    assert (entry.peptides, entry.anchored_peptides) == (3, 2)
    assert [share.residue for share in entry.p2] == ["C", "Y"]
    assert [share.residue for share in entry.c_term] == ["I", "W"]


def test_an_allele_with_long_peptides_alone_has_no_anchors():
    entry = allele_anchors("HLA-B*35:08", peptides("LPEPLPQGQLTAY"))
    assert entry.anchored_peptides == 0
    assert entry.p2 == entry.c_term == []


def test_lengths_fill_gaps_with_zero():
    found = length_distribution(peptides("A" * 8, "C" * 11, "D" * 11))
    assert [(entry.length, entry.count) for entry in found] == [(8, 1), (9, 0), (10, 0), (11, 2)]


def test_nothing_in_nothing_out():
    assert length_distribution([]) == []
    assert residue_shares("") == []
    assert anchors_by_allele([]) == []
    assert protein_counts([]) == []


def test_ties_are_in_alphabetical_order():
    assert [share.residue for share in residue_shares("VLMVLM")] == ["L", "M", "V"]


def test_same_protein_name_in_two_organisms_is_two_proteins():
    rows = [
        Peptide("CTELKLSDY", "HLA-A*01:01", "NP", "Influenza A virus"),
        Peptide("GILGFVFTL", ALLELE, "NP", "Influenza B virus"),
        Peptide("SRYWAIRTR", "HLA-B*27:05", "NP", "Influenza A virus"),
    ]
    assert [(row.organism, row.peptides) for row in protein_counts(rows)] == [
        ("Influenza A virus", 2),
        ("Influenza B virus", 1),
    ]
