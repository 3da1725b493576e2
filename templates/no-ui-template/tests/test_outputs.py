"""The files of a run: two tables and a plot."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest
from backend.analysis import anchors_by_allele, length_distribution
from backend.contract import AMINO_ACIDS
from backend.epitopes import Peptide, load_bundled
from backend.plot import FILL, MAX_ROWS, NARROWEST, REST_FILL, WIDTH, draw
from backend.svg import INK, document, text
from backend.tables import anchor_table, peptide_table, spreadsheet_safe

SVG = "{http://www.w3.org/2000/svg}"


def picture(peptides: list[Peptide]) -> ElementTree.Element:
    return parse(draw(anchors_by_allele(peptides), length_distribution(peptides)))


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)  # noqa: S314 - our own drawing, not a stranger's file


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_peptide_table_leaves_anchors_of_long_peptides_empty():
    rows = {row["sequence"]: row for row in csv.DictReader(io.StringIO(peptide_table(load_bundled())))}
    assert (rows["GILGFVFTL"]["p2"], rows["GILGFVFTL"]["c_term"]) == ("I", "L")
    assert (rows["LPEPLPQGQLTAY"]["p2"], rows["LPEPLPQGQLTAY"]["c_term"]) == ("", "")
    assert rows["NLVPMVATV"]["reference"] == "Wills et al., J Virol, 1996"


def test_anchor_table_has_one_row_per_residue():
    rows = list(csv.DictReader(io.StringIO(anchor_table(anchors_by_allele(load_bundled())))))
    a0201 = [row for row in rows if row["allele"] == "HLA-A*02:01" and row["anchor"] == "p2"]
    assert [(row["residue"], row["count"], row["frequency"]) for row in a0201] == [
        ("L", "11", "0.7857"),
        ("M", "2", "0.1429"),
        ("I", "1", "0.0714"),
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_cells_cannot_become_formulas(cell):
    assert spreadsheet_safe(cell) == f"'{cell}"
    assert f"'{cell}" in peptide_table([Peptide("GILGFVFTL", "HLA-A*02:01", cell)])


def test_plot_is_well_formed_named_and_lists_every_allele_with_anchors():
    root = picture(load_bundled())
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "Anchor residues per HLA class I allele"
    assert "HLA-A*02:01, 14 peptides: P2 L 79%, C-terminus V 57%." in root.find(f"{SVG}desc").text
    written = words(root)
    assert {"HLA-A*02:01", "HLA-B*57:01", "n = 14", "L 79%"} <= set(written)
    assert "HLA-B*35:08" not in written


def test_plot_of_nothing_and_of_long_peptides_alone_still_draws():
    assert "No peptides of 8 to 11 residues" in words(picture([]))
    assert "No peptides of 8 to 11 residues" in words(picture([Peptide("LPEPLPQGQLTAY", "HLA-B*35:08", "BZLF1")]))


def test_rare_residues_share_one_segment_and_nothing_leaves_the_page():
    rare = [f"A{residue}AAAAAA{residue}" for residue in AMINO_ACIDS]
    common = ["ALAAAAAAV"] * 600
    many = [Peptide(seq, allele, "x") for allele in ("HLA-A*02:01", "HLA-C*07:02") for seq in rare + common]
    root = picture(many)
    boxes = [box for box in root.iter(f"{SVG}rect") if box.find(f"{SVG}title") is not None]
    assert sum(box.get("fill") == REST_FILL for box in boxes) == 4
    for box in boxes:
        assert float(box.get("width")) > 0
        assert float(box.get("x")) + float(box.get("width")) <= WIDTH
        if box.get("fill") in FILL.values():
            assert float(box.get("width")) >= NARROWEST - 2


def test_one_rare_residue_in_thousands_is_still_a_visible_box():
    rows = [Peptide("GLLGFVFTL", "HLA-A*02:01", "x")] * 4000 + [Peptide("GWLGFVFTW", "HLA-A*02:01", "x")]
    widths = [float(box.get("width")) for box in picture(rows).iter(f"{SVG}rect")]
    assert min(widths) == 0.5


def test_plot_with_many_alleles_keeps_the_largest_and_says_so():
    rows = [Peptide("GILGFVFTL", f"HLA-A*{number}:01", "x") for number in range(10, 60)]
    rows += [Peptide("NLVPMVATV", "HLA-A*59:01", "x")]
    written = words(picture(rows))
    assert sum(word.startswith("HLA-") for word in written) == MAX_ROWS
    assert "HLA-A*59:01" in written
    assert any(f"the {MAX_ROWS} alleles with most peptides of 50" in word for word in written)


def test_letters_are_readable_on_every_fill():
    for colour in set(FILL.values()):
        assert (luminance(colour) + 0.05) / (luminance(INK) + 0.05) >= 4.5, colour
    assert set(FILL) == set(AMINO_ACIDS)


def test_text_in_the_picture_is_escaped():
    root = parse(document(10, 10, "<t>", "a & b", [text(0, 0, "<script>")]))
    assert root.find(f"{SVG}title").text == "<t>"
    assert words(root) == ["<script>"]
