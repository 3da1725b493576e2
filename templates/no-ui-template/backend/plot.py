"""The picture of a run: stacked anchor residues per allele, peptide lengths below.

Every segment carries its residue letter, so colour only groups residues by chemistry and nothing is lost
without it. The fills come from the Okabe-Ito palette; dark text on them has a contrast of at least 4.5 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import svg
from .contract import AlleleAnchors, LengthCount, ResidueShare

CHEMISTRY = {
    "aliphatic": ("ILMV", "#e9a820"),
    "aromatic": ("FWY", "#d994bb"),
    "basic": ("HKR", "#6fbdec"),
    "acidic": ("DE", "#ec7a3c"),
    "polar": ("CNQST", "#55b898"),
    "small, proline": ("AGP", "#efe36b"),
}
FILL = {residue: colour for residues, colour in CHEMISTRY.values() for residue in residues}
REST_FILL = "#e4e8ec"
HISTOGRAM_FILL = "#3f74a8"

WIDTH = 960
MARGIN = 32
LABELS = 184  # width of the allele names
GUTTER = 32  # between the two anchor columns
BAR = (WIDTH - 2 * MARGIN - LABELS - GUTTER) / 2
BAR_HEIGHT = 24
GAP = 1.5  # white between two segments
ROW = 32
TOP = 116  # top of the first bar
FOOT = 216  # room for the histogram and the legend
HISTOGRAM_HEIGHT = 110
NARROWEST = 17  # a segment thinner than this has no room for its letter
ROOM_FOR_PERCENT = 62
MAX_ROWS = 40


def draw(alleles: Sequence[AlleleAnchors], lengths: Sequence[LengthCount]) -> str:
    """Draw the whole picture as an SVG document."""
    anchored = [entry for entry in alleles if entry.anchored_peptides]
    shown = sorted(anchored, key=lambda entry: -entry.anchored_peptides)[:MAX_ROWS]
    shown.sort(key=lambda entry: entry.allele)
    below = TOP + ROW * max(len(shown), 1) + 44
    parts = [
        *_heading(len(shown), len(anchored)),
        *_rows(shown),
        *_histogram(MARGIN, below, lengths),
        *_legend(MARGIN + LABELS + BAR + GUTTER, below),
    ]
    return svg.document(WIDTH, below + FOOT, "Anchor residues per HLA class I allele", describe(shown), parts)


def describe(alleles: Sequence[AlleleAnchors]) -> str:
    """Say in words what the bars show, the most frequent residue of each anchor."""
    if not alleles:
        return "No peptides of 8 to 11 residues."
    return " ".join(
        f"{entry.allele}, {entry.anchored_peptides} peptides: P2 {_top(entry.p2)}, C-terminus {_top(entry.c_term)}."
        for entry in alleles
    )


def _top(shares: Sequence[ResidueShare]) -> str:
    return f"{shares[0].residue} {shares[0].frequency:.0%}"


def _heading(shown: int, anchored: int) -> Iterator[str]:
    yield svg.text(MARGIN, 42, "Anchor residues per HLA class I allele", size=21, bold=True)
    note = "Share of peptides with each residue at the two anchors, peptides of 8 to 11 residues"
    if shown < anchored:
        note += f"; the {shown} alleles with most peptides of {anchored}"
    yield svg.text(MARGIN, 64, note, fill=svg.MUTED)
    yield svg.text(MARGIN + LABELS, TOP - 14, "P2, second residue", bold=True)
    yield svg.text(MARGIN + LABELS + BAR + GUTTER, TOP - 14, "PΩ, C-terminal residue", bold=True)


def _rows(alleles: Sequence[AlleleAnchors]) -> Iterator[str]:
    if not alleles:
        yield svg.text(MARGIN, TOP + 17, "No peptides of 8 to 11 residues", fill=svg.MUTED)
    for row, entry in enumerate(alleles):
        y = TOP + row * ROW
        yield svg.text(MARGIN, y + 17, entry.allele, size=14)
        yield svg.text(
            MARGIN + LABELS - 14, y + 17, f"n = {entry.anchored_peptides}", size=12, anchor="end", fill=svg.MUTED
        )
        yield from _stack(MARGIN + LABELS, y, entry.allele, "P2", entry.p2)
        yield from _stack(MARGIN + LABELS + BAR + GUTTER, y, entry.allele, "PΩ", entry.c_term)


def _stack(x: float, y: float, allele: str, anchor: str, shares: Sequence[ResidueShare]) -> Iterator[str]:
    """Draw one stacked bar; residues too rare to be lettered share one grey segment at the end."""
    total = sum(share.count for share in shares)
    lettered = [share for share in shares if BAR * share.count / total >= NARROWEST]
    for share in lettered:
        width = BAR * share.count / total
        tip = f"{allele} {anchor}: {share.residue} in {share.count} of {total} ({share.frequency:.0%})"
        yield svg.rect(x, y, width - GAP, BAR_HEIGHT, FILL[share.residue], tip=tip)
        label = f"{share.residue} {share.frequency:.0%}" if width >= ROOM_FOR_PERCENT else share.residue
        yield svg.text(x + width / 2, y + 17, label, anchor="middle", bold=True)
        x += width
    rest = shares[len(lettered) :]
    if rest:
        width = BAR * sum(share.count for share in rest) / total
        tip = f"{allele} {anchor}, others: " + ", ".join(f"{share.residue} {share.count}" for share in rest)
        yield svg.rect(x, y, max(width - GAP, 0.5), BAR_HEIGHT, REST_FILL, tip=tip)


def _histogram(x: float, y: float, lengths: Sequence[LengthCount]) -> Iterator[str]:
    yield svg.text(x, y, "Peptide lengths, all peptides", bold=True)
    base = y + 36 + HISTOGRAM_HEIGHT
    step = min(64.0, (LABELS + BAR) / max(len(lengths), 1))
    tallest = max((entry.count for entry in lengths), default=1) or 1
    for index, entry in enumerate(lengths):
        height = HISTOGRAM_HEIGHT * entry.count / tallest
        left = x + index * step
        tip = f"{entry.count} peptides of {entry.length} residues"
        yield svg.rect(left, base - height, step - 10, height, HISTOGRAM_FILL, tip=tip)
        middle = left + (step - 10) / 2
        yield svg.text(middle, base - height - 6, str(entry.count), size=12, anchor="middle")
        yield svg.text(middle, base + 18, str(entry.length), anchor="middle")
    width = step * max(len(lengths), 1) - 10
    yield svg.line(x, base + 0.5, x + width, base + 0.5, svg.MUTED)
    yield svg.text(x, base + 40, "residues", size=12, fill=svg.MUTED)


def _legend(x: float, y: float) -> Iterator[str]:
    yield svg.text(x, y, "Colour groups residues by side chain", bold=True)
    entries = [(name, " ".join(residues), colour) for name, (residues, colour) in CHEMISTRY.items()]
    for index, (name, residues, colour) in enumerate([*entries, ("rare ones together", "", REST_FILL)]):
        top = y + 16 + index * 24
        yield svg.rect(x, top, 18, 16, colour)
        yield svg.text(x + 28, top + 13, name)
        yield svg.text(x + 150, top + 13, residues, fill=svg.MUTED)
