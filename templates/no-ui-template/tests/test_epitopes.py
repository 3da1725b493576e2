"""The bundled table and the merging of peptides."""

from __future__ import annotations

import re

import pytest
from backend.contract import ALLELE_PATTERN, AMINO_ACIDS, OwnPeptide
from backend.epitopes import UNNAMED_PROTEIN, Peptide, distinct, from_input, load_bundled, select
from pydantic import ValidationError


def test_every_bundled_row_is_complete_and_well_formed():
    table = load_bundled()
    assert 40 <= len(table) <= 60
    for row in table:
        assert set(row.sequence) <= set(AMINO_ACIDS), row
        assert 8 <= row.length <= 15, row
        assert re.fullmatch(ALLELE_PATTERN, row.allele), row
        assert row.protein and row.organism, row
        assert re.fullmatch(r"\S.* et al\., .+, (19|20)\d\d", row.reference), row


def test_the_bundled_table_repeats_nothing_and_covers_at_least_five_alleles():
    table = load_bundled()
    assert len(distinct(table)) == len(table)
    assert len({row.allele for row in table}) >= 5


@pytest.mark.parametrize(
    ("sequence", "allele", "protein"),
    [
        ("GILGFVFTL", "HLA-A*02:01", "M1"),
        ("NLVPMVATV", "HLA-A*02:01", "pp65 (UL83)"),
        ("RAKFKQLL", "HLA-B*08:01", "BZLF1"),
        ("IVTDFSVIK", "HLA-A*11:01", "EBNA3B"),
    ],
)
def test_textbook_epitopes_are_there(sequence, allele, protein):
    assert (sequence, allele, protein) in {(row.sequence, row.allele, row.protein) for row in load_bundled()}


def test_modified_analogues_say_so():
    notes = {row.sequence: row.note for row in load_bundled()}
    assert "modified analogue" in notes["ELAGIGILTV"]
    assert "modified analogue" in notes["IMDQVPFSV"]


def test_first_of_a_repeated_pair_wins_but_another_allele_counts():
    first = Peptide("GILGFVFTL", "HLA-A*02:01", "M1")
    again = Peptide("GILGFVFTL", "HLA-A*02:01", "other", source="own")
    elsewhere = Peptide("GILGFVFTL", "HLA-A*02:06", "M1")
    assert distinct([first, again, elsewhere]) == [first, elsewhere]


def test_select_without_alleles_keeps_all():
    table = load_bundled()
    assert select(table, []) == table
    assert {row.allele for row in select(table, ["HLA-B*07:02"])} == {"HLA-B*07:02"}
    assert select(table, ["HLA-C*07:01"]) == []


def test_own_peptide_without_protein_gets_a_readable_name():
    [peptide] = from_input([OwnPeptide(sequence="KTWGQYWQV", allele="HLA-A*02:01")])
    assert peptide.protein == UNNAMED_PROTEIN
    assert peptide.source == "own"


@pytest.mark.parametrize("sequence", ["", "ACDEFGH", "A" * 16, "GILGFVFTX", "gilgfvftl", "GILGF FTL", "GILGFVFTL\n"])
def test_bad_sequences_are_refused(sequence):
    with pytest.raises(ValidationError):
        OwnPeptide(sequence=sequence, allele="HLA-A*02:01")


@pytest.mark.parametrize("sequence", ["A" * 8, "A" * 15])
def test_length_bounds_are_inclusive(sequence):
    assert OwnPeptide(sequence=sequence, allele="HLA-A*02:01").sequence == sequence


@pytest.mark.parametrize("allele", ["A*02:01", "HLA-A2", "HLA-A*0201", "HLA-DRB1*01:01", "HLA-A*02", "hla-a*02:01"])
def test_bad_alleles_are_refused(allele):
    with pytest.raises(ValidationError):
        OwnPeptide(sequence="GILGFVFTL", allele=allele)
