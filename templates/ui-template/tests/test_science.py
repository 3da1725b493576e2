"""The arithmetic: anchors, score, background, information content."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from backend.logos import build_logo, information_bits, modal_length
from backend.motifs import MOTIFS, OMEGA, REFERENCES
from backend.scoring import AMINO_ACIDS, HUMAN_COMPOSITION, Band, Scorer


@pytest.mark.parametrize("motif", MOTIFS.values(), ids=list(MOTIFS))
def test_motifs_are_well_formed(motif):
    assert motif.sources
    assert set(motif.sources) <= set(REFERENCES)
    assert sum(anchor.primary for anchor in motif.anchors) == 2
    assert any(anchor.position == OMEGA and anchor.primary for anchor in motif.anchors)
    positions = [anchor.position for anchor in motif.anchors]
    assert len(set(positions)) == len(positions)
    for anchor in motif.anchors:
        named = anchor.preferred + anchor.tolerated + anchor.disfavoured
        assert named
        assert set(named) <= set(AMINO_ACIDS)
        assert len(set(named)) == len(named), f"{motif.allele} {anchor.label} names a residue twice"


def test_a_perfect_peptide_scores_100_and_a_hopeless_one_0():
    scorer = Scorer(MOTIFS["HLA-A*02:01"])
    assert scorer.match("FLYAAAAAV").score == 100
    assert scorer.match("DDDDDDDDD").score == 0


def test_the_verdict_follows_the_primary_anchors():
    scorer = Scorer(MOTIFS["HLA-A*02:01"])
    assert scorer.match("NLVPMVATV").band is Band.STRONG
    assert scorer.match("GILGFVFTL").band is Band.POSSIBLE
    assert scorer.match("SLLMWITQC").band is Band.UNLIKELY
    assert scorer.match("NLVPMVATV").anchors == "P2 L preferred, PΩ V preferred"


@pytest.mark.parametrize("length", [8, 9, 10, 11])
def test_the_c_terminal_anchor_moves_with_the_length(length):
    assert Scorer(MOTIFS["HLA-B*07:02"]).match("AP" + "A" * (length - 3) + "L").band is Band.STRONG


def test_the_exact_background_agrees_with_sampling():
    scorer = Scorer(MOTIFS["HLA-A*02:01"])
    target = scorer.match("NLVPMVATV")
    generator = random.Random(7)  # noqa: S311
    draws = ["".join(generator.choices(AMINO_ACIDS, list(HUMAN_COMPOSITION.values()), k=9)) for _ in range(20_000)]
    sampled = 100 * sum(scorer.match(draw).score >= target.score for draw in draws) / len(draws)
    assert target.background_percent == pytest.approx(sampled, abs=0.4)


def test_background_never_rises_with_the_score():
    scorer = Scorer(MOTIFS["HLA-B*08:01"])
    generator = random.Random(3)  # noqa: S311
    matches = [scorer.match("".join(generator.choices(AMINO_ACIDS, k=9))) for _ in range(500)]
    ordered = sorted(matches, key=lambda match: match.score)
    assert all(a.background_percent >= b.background_percent for a, b in itertools.pairwise(ordered))


def test_information_content_of_known_columns():
    correction = 19 / (2 * math.log(2) * 200)
    assert information_bits(["L"] * 200) == pytest.approx(math.log2(20) - correction)
    assert information_bits(["L", "V"] * 100) == pytest.approx(math.log2(20) - 1 - correction)
    assert information_bits(list(AMINO_ACIDS)) == 0


def test_modal_length_prefers_nonamers_on_a_tie():
    assert modal_length(["A" * 9, "A" * 10]) == 9
    assert modal_length(["A" * 10, "A" * 10, "A" * 9]) == 10


def test_a_logo_counts_only_the_peptides_it_draws():
    logo = build_logo("HLA-A*02:01", ["NLVPMVATV"] * 30 + ["ELAGIGILTV"], resamples=50, seed=1)
    assert (logo["length"], logo["peptides"], len(logo["positions"])) == (9, 30, 9)
    second = logo["positions"][1]
    assert second["residues"][0]["residue"] == "L"
    assert second["low"] <= second["bits"] <= second["high"]


def test_no_peptides_no_logo_and_no_resampling_no_interval():
    assert build_logo("HLA-A*02:01", [], resamples=50, seed=1) is None
    assert build_logo("HLA-A*02:01", ["NLVPMVATV"] * 9, resamples=0, seed=1)["positions"][0]["low"] is None
