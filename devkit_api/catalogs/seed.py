"""The demo catalog: well-known epitopes with the papers that describe them, present at the first start.

Facts: sequence, allele, protein, position where it is certain, citation, and what the row was checked against: `VDJdb`
(sequence, allele and protein agree), a PDB or PubMed entry, the `abstract` of the cited paper, or public TCR sets and
multimer panels. Made for the demonstration, and marked so: one sample per allele that holds the epitopes published for
it, with an intensity derived from the sequence.
"""

from __future__ import annotations

import csv
import hashlib
from importlib.resources import files
from typing import Any

import attrs

from devkit_api.catalogs.chemistry import AlleleName, allele, peptide_mass
from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_LABEL, DEMO_PROVIDER
from devkit_api.catalogs.writer import CatalogSpec, VersionWriter
from devkit_api.database.migrate import connect
from devkit_api.database.target import Target

# Two devkits may start on one database.
_LOCK = 4_100_623
DEMO = CatalogSpec(
    provider=DEMO_PROVIDER,
    key=DEMO_CATALOG,
    label="Demo: published epitopes",
    description="DEMO DATA. Published T cell epitopes with their alleles, source proteins and citations. "
    "Samples and intensities are made for the demonstration.",
    is_demo=True,
)
_ANNOTATION = "Demo: the epitopes published for this allele; not a measured sample, intensities are synthetic"


@attrs.frozen
class Epitope:
    """One row of `data/demo_epitopes.csv`."""

    sequence: str
    allele: AlleleName
    protein: tuple[str, str]
    start: int | None
    citation: str
    note: str


def seed(target: Target) -> bool:
    """Write this devkit's version of the demo catalog unless it is there; whether it was written. Blocking.

    Versions that earlier devkits wrote stay readable under their labels.
    """
    with connect(target) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(
            "SELECT EXISTS (SELECT FROM devkit.catalog_versions WHERE catalog_id = %s AND version_label = %s)",
            [str(DEMO.catalog_id), DEMO_LABEL],
        )
        if cursor.fetchone()[0]:
            return False
        _write(VersionWriter(cursor, DEMO, DEMO_LABEL))
    return True


def epitopes() -> list[Epitope]:
    """The published epitopes."""
    return [
        Epitope(
            sequence=row["sequence"],
            allele=_known(row["allele"]),
            protein=(row["protein"], row["organism"]),
            start=int(row["start"]) if row["start"] else None,
            citation=row["reference"],
            note="; ".join(text for text in (row["note"], f"checked: {row['checked']}") if text),
        )
        for row in _table("demo_epitopes.csv")
    ]


def _write(writer: VersionWriter) -> None:
    found = epitopes()
    writer.begin()
    alleles = writer.alleles({e.allele.name: e.allele for e in found}.values())
    proteins = writer.proteins(
        ["name", "organism", "gene_name", "accession", "length"],
        [
            (row["protein"], row["organism"], row["gene"] or None, row["accession"] or None, row["length"] or None)
            for row in _table("demo_proteins.csv")
        ],
    )
    peptides = _write_peptides(writer, [e.sequence for e in found])
    writer.rows(
        "protein_peptide_mappings",
        ["peptide_id", "protein_id", "start_position", "end_position"],
        [
            (peptides[e.sequence][0], proteins[e.protein], e.start, e.start and e.start + len(e.sequence) - 1)
            for e in found
        ],
    )
    writer.rows(
        "epitope_references",
        ["peptide_id", "allele_id", "citation", "note"],
        [(peptides[e.sequence][0], alleles[e.allele.name], e.citation, e.note) for e in found],
    )
    _write_samples(writer, found, alleles, peptides)
    writer.finish()


def _write_peptides(writer: VersionWriter, sequences: list[str]) -> dict[str, tuple[int, int]]:
    rows = [(sequence, peptide_mass(sequence)) for sequence in sequences]
    peptide_ids = writer.rows_with_ids("peptides", "peptide_id", ["sequence", "mass"], rows)
    forms = writer.rows_with_ids(
        "peptidoforms", "peptidoform_id", ["peptide_id", "modified_sequence"], zip(peptide_ids, sequences, strict=True)
    )
    return dict(zip(sequences, zip(peptide_ids, forms, strict=True), strict=True))


def _write_samples(
    writer: VersionWriter, found: list[Epitope], alleles: dict[str, int], peptides: dict[str, tuple[int, int]]
) -> None:
    names = list(dict.fromkeys(e.allele.name for e in found))
    columns = ["original_sample_number", "sample_name", "sample_class", "sample_type", "annotation"]
    rows = [
        (number, f"Demo {name}", "demo", "published epitopes", _ANNOTATION)
        for number, name in enumerate(names, start=1)
    ]
    samples = dict(zip(names, writer.rows_with_ids("samples", "sample_id", columns, rows), strict=True))
    writer.rows("sample_hla_typing", ["sample_id", "allele_id"], [(samples[n], alleles[n]) for n in names])
    writer.rows(
        "sample_peptide_mappings",
        ["sample_id", "peptide_id", "peptidoform_id", "normalized_intensity"],
        [(samples[e.allele.name], *peptides[e.sequence], _demo_intensity(e.sequence)) for e in found],
    )


def _demo_intensity(sequence: str) -> float:
    """A value in 0.001..1 that depends on the sequence alone."""
    return (int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:4], "big") % 1000 + 1) / 1000


def _known(name: str) -> AlleleName:
    found = allele(name)
    if found is None:
        raise ValueError(f"demo data: {name} is not an allele")
    return found


def _table(name: str) -> list[dict[str, Any]]:
    text = files("devkit_api.catalogs").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
