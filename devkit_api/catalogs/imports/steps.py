"""From staged rows to a version's rows: checks that need the database, then insertions, all set by set.

`{s}` is the staging table. `%(segment)s` is the new segment, `%(visible)s` all that the version sees, `%(parent)s` the
segments of the version appended to. A check answers rows `(source, row_number, field, reason)`.
"""

from __future__ import annotations

from collections.abc import Iterator

from devkit_api.catalogs.imports.report import MAX_SHOWN

_PEPTIDE = "JOIN vocabulary.peptides p ON p.sequence = s.sequence AND p.segment = ANY(%(visible)s)"
_SAMPLE = "JOIN observation.samples o ON o.sample_name = s.sample_name AND o.segment = ANY(%(visible)s)"
_FORM = "coalesce(s.modified_sequence, s.sequence)"
_HAS_PROTEIN = "(s.accession IS NOT NULL OR s.protein_name IS NOT NULL)"
_ORGANISM = "coalesce(s.organism, 'unspecified')"


def _repeated(key: str, same: str, field: str, what: str) -> str:
    """Rows that give a key again with other values than its first row."""
    return f"""
SELECT source, row_number, '{field}', 'row ' || first || ' gives {what} already, with other values'
  FROM (SELECT source, row_number, ({same}) AS same, first_value(({same})) OVER w AS first_same,
               first_value(row_number) OVER w AS first, row_number() OVER w AS n
          FROM {{s}} s WINDOW w AS (PARTITION BY {key} ORDER BY source, row_number)) d
 WHERE n > 1 AND same IS DISTINCT FROM first_same ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608


_UNKNOWN_SAMPLE = f"""
SELECT DISTINCT ON (s.sample_name) source, row_number, 'sample_name',
       'no sample has this name: neither the samples of this import nor the version appended to'
  FROM {{s}} s
 WHERE NOT EXISTS (SELECT FROM observation.samples o
                    WHERE o.sample_name = s.sample_name AND o.segment = ANY(%(visible)s))
 ORDER BY s.sample_name, source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608
_SAMPLE_TWICE = _repeated("s.sample_name", "ROW(s.row_number, s.source)", "sample_name", "this sample")
_SAMPLE_KNOWN = f"""
SELECT source, row_number, 'sample_name', 'the version appended to has a sample of this name'
  FROM {{s}} s JOIN observation.samples o ON o.sample_name = s.sample_name AND o.segment = ANY(%(parent)s)
 ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608
_OBSERVED_TWICE = _repeated(
    f"s.sample_name, s.sequence, {_FORM}", "ROW(s.normalized_intensity, s.q_value)", "sequence",
    "this peptidoform of this sample",
)  # fmt: skip
_OBSERVED_KNOWN = f"""
SELECT source, row_number, 'sequence', 'the version appended to has this peptidoform of this sample'
  FROM {{s}} s
  JOIN observation.samples o ON o.sample_name = s.sample_name AND o.segment = ANY(%(parent)s)
  JOIN vocabulary.peptides p ON p.sequence = s.sequence AND p.segment = ANY(%(parent)s)
  JOIN vocabulary.peptidoforms f ON f.peptide_id = p.peptide_id AND f.modified_sequence = {_FORM}
  JOIN observation.sample_peptide_mappings m ON m.sample_id = o.sample_id AND m.peptidoform_id = f.peptidoform_id
 ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608
_PREDICTED_TWICE = _repeated(
    "s.sequence, s.allele, s.tool, s.tool_version",
    "ROW(s.raw_score, s.percentile_rank, s.affinity_nm, s.binding_level, s.binding_core)", "sequence",
    "this prediction",
)  # fmt: skip
_PREDICTED_KNOWN = f"""
SELECT source, row_number, 'sequence', 'the version appended to has this prediction'
  FROM {{s}} s JOIN vocabulary.peptides p ON p.sequence = s.sequence AND p.segment = ANY(%(parent)s)
  JOIN reference.hla_alleles a ON a.allele_name = s.allele
  JOIN vocabulary.peptide_binding_predictions b ON b.peptide_id = p.peptide_id AND b.allele_id = a.allele_id
   AND b.tool = s.tool AND b.tool_version = s.tool_version
 ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608
_NO_PROTEIN = f"""
SELECT source, row_number, 'accession', 'a row needs an accession or a protein_name'
  FROM {{s}} s WHERE NOT {_HAS_PROTEIN} ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608
_POSITION_ALONE = f"""
SELECT source, row_number, 'start_position', 'a position needs an accession or a protein_name'
  FROM {{s}} s WHERE s.start_position IS NOT NULL AND NOT {_HAS_PROTEIN}
 ORDER BY source, row_number LIMIT {MAX_SHOWN}"""  # noqa: S608

_PEPTIDES = """
INSERT INTO vocabulary.peptides (segment, sequence, mass)
SELECT %(segment)s, s.sequence, min(s.mass) FROM {s} s
 WHERE NOT EXISTS (SELECT FROM vocabulary.peptides p WHERE p.sequence = s.sequence AND p.segment = ANY(%(visible)s))
 GROUP BY s.sequence ORDER BY s.sequence"""
_PEPTIDOFORMS = f"""
INSERT INTO vocabulary.peptidoforms (segment, peptide_id, modified_sequence, modifications)
SELECT %(segment)s, p.peptide_id, s.form, s.modifications
  FROM (SELECT s.sequence, {_FORM} AS form, coalesce(min(s.modifications), '') AS modifications
          FROM {{s}} s GROUP BY 1, 2) s {_PEPTIDE}
 WHERE NOT EXISTS (SELECT FROM vocabulary.peptidoforms f
                    WHERE f.peptide_id = p.peptide_id AND f.modified_sequence = s.form)"""  # noqa: S608
_PROTEINS_BY_ACCESSION = """
INSERT INTO reference.proteins (accession, gene_name, name, organism)
SELECT accession, gene_name,
       CASE WHEN name = accession THEN name
            WHEN count(*) OVER (PARTITION BY name, organism) = 1
             AND NOT EXISTS (SELECT FROM reference.proteins r WHERE r.name = d.name AND r.organism = d.organism)
            THEN name ELSE name || ' (' || accession || ')' END, organism
  FROM (SELECT s.accession, min(s.gene_name) AS gene_name, coalesce(min(s.protein_name), s.accession) AS name,
               coalesce(min(s.organism), 'unspecified') AS organism
          FROM {s} s WHERE s.accession IS NOT NULL
           AND NOT EXISTS (SELECT FROM reference.proteins r WHERE r.accession = s.accession)
         GROUP BY s.accession) d"""
_PROTEINS_BY_NAME = f"""
INSERT INTO reference.proteins (name, organism, gene_name)
SELECT s.protein_name, {_ORGANISM}, min(s.gene_name) FROM {{s}} s
 WHERE s.accession IS NULL AND s.protein_name IS NOT NULL GROUP BY 1, 2
ON CONFLICT (name, organism) DO NOTHING"""  # noqa: S608
_MAPPINGS = f"""
INSERT INTO vocabulary.protein_peptide_mappings (segment, peptide_id, protein_id, start_position, end_position)
SELECT DISTINCT %(segment)s::integer, p.peptide_id, coalesce(a.protein_id, n.protein_id), s.start_position,
       s.start_position + char_length(s.sequence) - 1
  FROM {{s}} s {_PEPTIDE}
  LEFT JOIN reference.proteins a ON a.accession = s.accession
  LEFT JOIN reference.proteins n ON s.accession IS NULL AND n.name = s.protein_name AND n.organism = {_ORGANISM}
 WHERE {_HAS_PROTEIN}
ON CONFLICT DO NOTHING"""  # noqa: S608
_NAMED = """
INSERT INTO reference.{table} ({column}) SELECT DISTINCT s.{field} FROM {{s}} s WHERE s.{field} IS NOT NULL
ON CONFLICT DO NOTHING"""
_SAMPLES = """
INSERT INTO observation.samples (segment, original_sample_number, sample_name, sample_class, sample_type, sex, organ_id,
                                 cell_line_id, annotation)
SELECT %(segment)s, coalesce(s.original_sample_number, s.row_number), s.sample_name,
       coalesce(s.sample_class, 'unspecified'), coalesce(s.sample_type, 'unspecified'), s.sex, g.organ_id,
       l.cell_line_id, coalesce(s.annotation, '')
  FROM {s} s LEFT JOIN reference.organs g ON g.organ_name = s.organ
  LEFT JOIN reference.cell_lines l ON l.cell_line_name = s.cell_line
 ORDER BY s.source, s.row_number"""
_SAMPLES_BY_NAME = """
INSERT INTO observation.samples (segment, original_sample_number, sample_name, sample_class, sample_type)
SELECT %(segment)s, (SELECT count(*) FROM observation.samples o WHERE o.segment = ANY(%(visible)s))
       + row_number() OVER (ORDER BY s.sample_name), s.sample_name, 'unspecified', 'unspecified'
  FROM (SELECT DISTINCT sample_name FROM {s}) s
 WHERE NOT EXISTS (SELECT FROM observation.samples o
                    WHERE o.sample_name = s.sample_name AND o.segment = ANY(%(visible)s))"""


def _diseases(values: str) -> str:
    return f"""
INSERT INTO reference.diseases (disease_name) SELECT DISTINCT d.name FROM {{s}} s, LATERAL ({values}) AS d(name)
 WHERE d.name IS NOT NULL ON CONFLICT DO NOTHING"""  # noqa: S608


def _named_of_samples(table: str, key: str, reference: str, name: str, values: str) -> str:
    """Rows that say which of the named things of a reference table each sample has."""
    return f"""
INSERT INTO observation.{table} (segment, sample_id, {key})
SELECT DISTINCT %(segment)s::integer, o.sample_id, r.{key} FROM {{s}} s {_SAMPLE}, LATERAL ({values}) AS d(name)
  JOIN reference.{reference} r ON r.{name} = d.name
ON CONFLICT DO NOTHING"""  # noqa: S608


def _sample_diseases(values: str) -> str:
    return _named_of_samples("sample_diseases", "disease_id", "diseases", "disease_name", values)


def _typing(values: str) -> str:
    return _named_of_samples("sample_hla_typing", "allele_id", "hla_alleles", "allele_name", values)


_EACH_DISEASE = "SELECT unnest(string_to_array(s.diseases, ';'))"
_EACH_ALLELE = "SELECT unnest(string_to_array(s.hla_typing, ';'))"
_OBSERVATIONS = f"""
INSERT INTO observation.sample_peptide_mappings (segment, sample_id, peptide_id, peptidoform_id, normalized_intensity,
                                                 q_value)
SELECT DISTINCT %(segment)s::integer, o.sample_id, p.peptide_id, f.peptidoform_id, s.normalized_intensity, s.q_value
  FROM {{s}} s {_SAMPLE} {_PEPTIDE}
  JOIN vocabulary.peptidoforms f ON f.peptide_id = p.peptide_id AND f.modified_sequence = {_FORM}"""  # noqa: S608
_PREDICTIONS = f"""
INSERT INTO vocabulary.peptide_binding_predictions (segment, peptide_id, allele_id, tool, tool_version, raw_score,
                                                    percentile_rank, affinity_nm, binding_level, binding_core)
SELECT DISTINCT %(segment)s::integer, p.peptide_id, a.allele_id, s.tool, s.tool_version, s.raw_score, s.percentile_rank,
       s.affinity_nm, s.binding_level, s.binding_core
  FROM {{s}} s {_PEPTIDE} JOIN reference.hla_alleles a ON a.allele_name = s.allele"""  # noqa: S608

# Alleles named by the rows of each table; the loader makes them first, as their locus is not for SQL to find.
ALLELES = {
    "sample_peptide_mappings": "SELECT DISTINCT unnest(string_to_array(hla_typing, ';')) FROM {s}",
    "samples": "SELECT DISTINCT unnest(string_to_array(hla_typing, ';')) FROM {s}",
    "sample_hla_typing": "SELECT DISTINCT allele FROM {s}",
    "peptide_binding_predictions": "SELECT DISTINCT allele FROM {s}",
}
# Samples first: others name them.
ORDER = (
    "samples", "sample_hla_typing", "sample_diseases", "peptides", "protein_peptide_mappings",
    "peptide_binding_predictions", "sample_peptide_mappings",
)  # fmt: skip


def checks(table: str, *, makes_samples: bool) -> Iterator[str]:
    """Checks of staged rows, before any of the table is written."""
    if table == "samples":
        yield from (_SAMPLE_TWICE, _SAMPLE_KNOWN)
    elif table in {"sample_hla_typing", "sample_diseases"}:
        yield _UNKNOWN_SAMPLE
    elif table == "protein_peptide_mappings":
        yield _NO_PROTEIN
    elif table == "peptide_binding_predictions":
        yield from (_PREDICTED_TWICE, _PREDICTED_KNOWN)
    elif table == "sample_peptide_mappings":
        yield from (_OBSERVED_TWICE, _OBSERVED_KNOWN, _POSITION_ALONE)
        if not makes_samples:
            yield _UNKNOWN_SAMPLE


def insertions(table: str, *, makes_samples: bool) -> Iterator[str]:
    """What makes a table's rows."""
    if table == "samples":
        yield _NAMED.format(table="organs", column="organ_name", field="organ")
        yield _NAMED.format(table="cell_lines", column="cell_line_name", field="cell_line")
        yield from (_SAMPLES, _diseases(_EACH_DISEASE), _sample_diseases(_EACH_DISEASE), _typing(_EACH_ALLELE))
    elif table == "sample_hla_typing":
        yield _typing("SELECT s.allele")
    elif table == "sample_diseases":
        yield from (_diseases("SELECT s.disease"), _sample_diseases("SELECT s.disease"))
    elif table == "peptides":
        yield _PEPTIDES
    elif table == "protein_peptide_mappings":
        yield from (_PEPTIDES, _PROTEINS_BY_ACCESSION, _PROTEINS_BY_NAME, _MAPPINGS)
    elif table == "peptide_binding_predictions":
        yield from (_PEPTIDES, _PREDICTIONS)
    else:
        yield from (_PEPTIDES, _PEPTIDOFORMS, _PROTEINS_BY_ACCESSION, _PROTEINS_BY_NAME, _MAPPINGS)
        if makes_samples:
            yield _SAMPLES_BY_NAME
        yield from (_typing(_EACH_ALLELE), _OBSERVATIONS)
