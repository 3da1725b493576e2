"""Published peptide anchor motifs of common HLA class I molecules.

Every entry says which residues the literature names as *preferred* and which as *tolerated* at the anchor
positions of one allele, and where that is written. Positions count from the N terminus (1, 2, 3, …); `OMEGA`
is the C-terminal residue, so one motif serves peptides of eight to eleven residues.

These are qualitative motifs from pool sequencing and substitution assays. A peptide that fits one is a candidate
ligand; the fit is not a binding affinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OMEGA: Final = -1

REFERENCES: Final[dict[str, str]] = {
    "falk-1991": "Falk K et al. Nature 1991;351:290-296",
    "jardetzky-1991": "Jardetzky TS et al. Nature 1991;353:326-329",
    "ruppert-1993": "Ruppert J et al. Cell 1993;74:929-937",
    "sutton-1993": "Sutton J et al. Eur J Immunol 1993;23:447-453",
    "falk-1994": "Falk K et al. Immunogenetics 1994;40:238-241",
    "kubo-1994": "Kubo RT et al. J Immunol 1994;152:3913-3924",
    "maier-1994": "Maier R et al. Immunogenetics 1994;40:306-308",
    "dibrino-1995": "DiBrino M et al. Biochemistry 1995;34:10130-10138",
    "falk-1995": "Falk K et al. Immunogenetics 1995;41:165-168",
    "kondo-1995": "Kondo A et al. J Immunol 1995;155:4307-4312",
    "rammensee-1995": "Rammensee HG et al. Immunogenetics 1995;41:178-228",
    "sidney-1995": "Sidney J et al. J Immunol 1995;154:247-259",
    "sidney-1996": "Sidney J et al. Hum Immunol 1996;45:79-93",
    "sette-1999": "Sette A, Sidney J. Immunogenetics 1999;50:201-212",
    "sidney-2008": "Sidney J et al. Immunome Res 2008;4:2",
}


@dataclass(frozen=True)
class Anchor:
    """What one position of a peptide should hold to fit an allele."""

    position: int
    preferred: str
    tolerated: str = ""
    disfavoured: str = ""
    primary: bool = True

    @property
    def label(self) -> str:
        """The position as immunologists write it: P2, or PΩ for the C terminus."""
        return "PΩ" if self.position == OMEGA else f"P{self.position}"


@dataclass(frozen=True)
class Motif:
    """The anchor motif of one allele and its sources."""

    allele: str
    anchors: tuple[Anchor, ...]
    sources: tuple[str, ...]

    @property
    def citation(self) -> str:
        """The sources, spelled out for a reader."""
        return "; ".join(REFERENCES[source] for source in self.sources)


def _secondary(position: int, preferred: str, disfavoured: str = "") -> Anchor:
    return Anchor(position, preferred, disfavoured=disfavoured, primary=False)


_CATALOGUE: Final[tuple[Motif, ...]] = (
    # A1 ligands are held at P3 and the C terminus; P2 helps.
    Motif(
        "HLA-A*01:01",
        (Anchor(3, "DE", "AS"), Anchor(OMEGA, "Y"), _secondary(1, "GFYW", "DE"), _secondary(2, "TSM")),
        ("falk-1994", "kubo-1994"),
    ),
    Motif(
        "HLA-A*02:01",
        (
            Anchor(2, "LM", "IVATQ"),
            Anchor(OMEGA, "VL", "MIAT"),
            _secondary(1, "YFW", "DEP"),
            _secondary(3, "YFW", "DERKH"),
        ),
        ("falk-1991", "ruppert-1993", "sidney-2008"),
    ),
    Motif(
        "HLA-A*03:01",
        (
            Anchor(2, "LVM", "ISATF"),
            Anchor(OMEGA, "KY", "RHFA"),
            _secondary(1, "RHK", "DEP"),
            _secondary(3, "YFW", "DE"),
        ),
        ("maier-1994", "kubo-1994", "sidney-1996"),
    ),
    Motif(
        "HLA-A*11:01",
        (Anchor(2, "VTMLIS", "AGNCDF"), Anchor(OMEGA, "K", "RYH"), _secondary(1, "A", "DEP"), _secondary(3, "YFW")),
        ("falk-1994", "kubo-1994", "sidney-1996"),
    ),
    Motif(
        "HLA-A*24:02",
        (Anchor(2, "YF", "WM"), Anchor(OMEGA, "FLIW"), _secondary(1, "YFWRHK", "DEG"), _secondary(3, "", "DE")),
        ("maier-1994", "kubo-1994", "kondo-1995"),
    ),
    Motif(
        "HLA-B*07:02",
        (Anchor(2, "P"), Anchor(OMEGA, "L", "FWYIVMA"), _secondary(1, "RHKFWY", "DEQNP"), _secondary(3, "RHK", "DEP")),
        ("maier-1994", "sidney-1995", "sidney-2008"),
    ),
    # B8 is the exception among the common B alleles: a basic residue in the middle replaces the P2 anchor.
    Motif(
        "HLA-B*08:01",
        (Anchor(5, "RK", "H"), Anchor(OMEGA, "LIVM", "FA"), _secondary(3, "RK")),
        ("sutton-1993", "rammensee-1995", "sidney-2008"),
    ),
    Motif(
        "HLA-B*15:01",
        (Anchor(2, "QL", "IVMP"), Anchor(OMEGA, "FY", "MWIVLA")),
        ("falk-1995", "sette-1999", "sidney-2008"),
    ),
    Motif(
        "HLA-B*27:05",
        (Anchor(2, "R", "K"), Anchor(OMEGA, "KRLYF", "ANMIH"), _secondary(1, "RK")),
        ("jardetzky-1991", "rammensee-1995", "sidney-2008"),
    ),
    Motif(
        "HLA-B*35:01",
        (Anchor(2, "P"), Anchor(OMEGA, "YFMLI", "WVA"), _secondary(1, "FWYLIVM", "AGP"), _secondary(3, "FWY")),
        ("sidney-1995", "sidney-2008"),
    ),
    Motif("HLA-B*40:01", (Anchor(2, "E", "D"), Anchor(OMEGA, "L", "FWYIMVA")), ("falk-1995", "sette-1999")),
    Motif("HLA-B*44:02", (Anchor(2, "E", "D"), Anchor(OMEGA, "YFW", "LIMVA")), ("dibrino-1995", "sette-1999")),
    Motif("HLA-B*58:01", (Anchor(2, "AST"), Anchor(OMEGA, "FW", "YLIVMA")), ("falk-1995", "sette-1999", "sidney-2008")),
)

MOTIFS: Final[dict[str, Motif]] = {motif.allele: motif for motif in _CATALOGUE}
