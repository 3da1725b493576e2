"""The tables an import can fill, and the fields a row of each has.

Rows name things as people do (a sample by its name, a peptide by its sequence, a protein by its accession); ids are the
database's. `docs/catalogs.md` lists the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from devkit_api.catalogs.imports import parsers
from devkit_api.catalogs.imports.parsers import Parser


@attrs.frozen
class Field:
    """One value of a row: its parser, its type while staged, and other names its column may have."""

    name: str
    parse: Parser
    sql_type: str = "text"
    required: bool = False
    aliases: tuple[str, ...] = ()


@attrs.frozen
class Target:
    """One table. `names_sample`: its rows speak of samples; `one_of`: at least one of these fields is needed."""

    table: str
    fields: tuple[Field, ...]
    one_of: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Field]:
        """Fields by their names."""
        return {field.name: field for field in self.fields}

    def has(self, field: str) -> bool:
        """Whether rows have this field."""
        return any(known.name == field for known in self.fields)


def _field(name: str, parse: Parser, sql_type: str = "text", *aliases: str) -> Field:
    return Field(name, parse, sql_type, aliases=aliases)


def _needed(field: Field) -> Field:
    return attrs.evolve(field, required=True)


_BIG = 10**9
_SAMPLE = _field("sample_name", parsers.text, "text", "sample", "sample_id", "sample_label")
_SEQUENCE = _field("sequence", parsers.sequence, "text", "peptide", "peptide_sequence", "stripped_sequence")
_ALLELE = _field("allele", parsers.allele_name, "text", "hla_allele", "allele_name", "mhc", "hla")
_TYPING = _field("hla_typing", parsers.allele_list, "text", "hla_types", "sample_hla_typing", "alleles")
_PROTEIN = (
    _field("accession", parsers.text, "text", "protein_accession", "uniprot", "uniprot_id", "protein_id"),
    _field("protein_name", parsers.text, "text", "protein"),
    _field("gene_name", parsers.text, "text", "gene", "gene_symbol"),
    _field("organism", parsers.text, "text", "species"),
    _field("start_position", parsers.whole(1, _BIG), "integer", "start", "first_aa_position"),
)

_TARGETS = (
    Target(
        "sample_peptide_mappings",
        (
            _needed(_SAMPLE), _needed(_SEQUENCE),
            _needed(_field("normalized_intensity", parsers.number(0), "double precision", "intensity", "abundance")),
            _field("q_value", parsers.number(0, 1), "double precision", "qvalue", "q.value", "fdr"),
            _field("modified_sequence", parsers.text, "text", "peptidoform"),
            _field("modifications", parsers.text, "text", "mods"),
            *_PROTEIN, _TYPING,
        ),
    ),
    Target(
        "samples",
        (
            _needed(_SAMPLE),
            _field("original_sample_number", parsers.whole(0, 2**31 - 1), "integer", "sample_number"),
            _field("sample_class", parsers.text, "text", "class"),
            _field("sample_type", parsers.text, "text", "type"),
            _field("sex", parsers.sex, "text", "gender"),
            _field("organ", parsers.text, "text", "tissue"),
            _field("cell_line", parsers.text, "text"),
            _field("diseases", parsers.text_list, "text", "disease", "condition"),
            _TYPING,
            _field("annotation", parsers.text, "text", "comment", "notes"),
        ),
    ),
    Target("sample_hla_typing", (_needed(_SAMPLE), _needed(_ALLELE))),
    Target("sample_diseases", (_needed(_SAMPLE), _needed(_field("disease", parsers.text, "text", "condition")))),
    Target("peptides", (_needed(_SEQUENCE),)),
    Target("protein_peptide_mappings", (_needed(_SEQUENCE), *_PROTEIN), one_of=("accession", "protein_name")),
    Target(
        "peptide_binding_predictions",
        (
            _needed(_SEQUENCE), _needed(_ALLELE), _needed(_field("tool", parsers.text)),
            _needed(_field("tool_version", parsers.text)),
            _needed(_field("raw_score", parsers.number(), "double precision", "score")),
            _field("percentile_rank", parsers.number(0, 100), "double precision", "rank"),
            _field("affinity_nm", parsers.number(0, above=True), "double precision", "affinity", "ic50"),
            _field("binding_level", parsers.binding_level, "text", "bindlevel"),
            _field("binding_core", parsers.text, "text", "core"),
        ),
    ),
)  # fmt: skip

TARGETS: Mapping[str, Target] = {target.table: target for target in _TARGETS}
