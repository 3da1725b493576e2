"""Names and masses: what can be computed about alleles and peptides."""

from __future__ import annotations

import re
from functools import lru_cache

import attrs

# Monoisotopic residue masses in dalton (Unimod), and water.
_RESIDUES = {
    "G": 57.021464, "A": 71.037114, "S": 87.032028, "P": 97.052764, "V": 99.068414, "T": 101.047679,
    "C": 103.009185, "L": 113.084064, "I": 113.084064, "N": 114.042927, "D": 115.026943, "Q": 128.058578,
    "K": 128.094963, "E": 129.042593, "M": 131.040485, "H": 137.058912, "F": 147.068414, "U": 150.953636,
    "R": 156.101111, "Y": 163.063329, "W": 186.079313,
}  # fmt: skip
_WATER = 18.010565
_PLAIN = re.compile(
    r"(?:HLA-)?(A|B|C|E|F|G|DRB[1345]|DR[AB]|DQ[AB]1|DP[AB]1)\*([0-9]{2,3}(?::[0-9]{2,3}){1,3}[NLSCAQ]?)"
)

_PLAIN_PAIR = re.compile(
    r"(?:HLA-)?((?:DQ|DP|DR)A1?\*[0-9]{2,3}:[0-9]{2,3})[/-]((?:DQ|DP|DR)B[1345]\*[0-9]{2,3}:[0-9]{2,3})"
)


@attrs.frozen
class AlleleName:
    """A normalised name: `HLA-A*02:01`, locus `HLA-A`, class `I`."""

    name: str
    locus: str
    mhc_class: str


def peptide_mass(sequence: str) -> float | None:
    """Monoisotopic mass of the unmodified peptide in dalton; None when a residue has no mass of its own (X)."""
    if not set(sequence) <= _RESIDUES.keys():
        return None
    return round(sum(_RESIDUES[residue] for residue in sequence) + _WATER, 5)


@lru_cache(maxsize=4096)
def allele(text: str) -> AlleleName | None:
    """An HLA allele, or pair of class II chains, in IMGT nomenclature; None for anything else, serotypes included."""
    plain = _PLAIN.fullmatch(text.strip().upper())
    if plain is not None:
        gene, fields = plain.groups()
        return AlleleName(f"HLA-{gene}*{fields}", f"HLA-{gene}", "II" if gene.startswith("D") else "I")
    pair = _PLAIN_PAIR.fullmatch(text.strip().upper())
    if pair is not None:
        return AlleleName(f"HLA-{pair[1]}/{pair[2]}", f"HLA-{pair[1].split('*')[0]}", "II")
    # Its tables take a moment to load: only for the other ways to write a name.
    from mhcgnomes import Allele, Pair, parse

    found = parse(text.strip(), default_species="HLA", raise_on_error=False)
    if not isinstance(found, (Allele, Pair)):
        return None
    name = str(found.to_string()).upper()
    if not name.startswith("HLA-"):
        return None
    locus = name.split("*", 1)[0]
    return AlleleName(name, locus, "I" if found.is_class1 else "II")
