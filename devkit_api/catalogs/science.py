"""The other reads of a catalog (wire-contract F.4): alleles, frequencies, coverage, intensities, positions."""

from __future__ import annotations

from typing import Any

from devkit_api.catalogs.filters import Condition
from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.reads import Record, records
from devkit_api.database.pool import Pool
from devkit_api.errors import CatalogEntityNotFound

# What the SDK calls an allele of a resolution: the first field, the first two, or all of them.
_FIELDS = {"2-digit": 1, "4-digit": 2, "full": 8}

_ALLELES = """
SELECT DISTINCT split_part(a.allele_name, '*', 1) || '*'
       || array_to_string((string_to_array(split_part(a.allele_name, '*', 2), ':'))[:%s], ':') AS allele
  FROM reference.hla_alleles a
 WHERE EXISTS (SELECT FROM observation.sample_hla_typing t WHERE t.allele_id = a.allele_id AND t.segment = ANY(%s))
   AND (%s::text IS NULL OR a.locus = %s) AND a.allele_name NOT LIKE '%%/%%'
 ORDER BY allele"""
# A pair of class II chains is one name; shortening it would make another pair of it.
_PAIRS = """
SELECT a.allele_name AS allele FROM reference.hla_alleles a
 WHERE EXISTS (SELECT FROM observation.sample_hla_typing t WHERE t.allele_id = a.allele_id AND t.segment = ANY(%s))
   AND (%s::text IS NULL OR a.locus = %s) AND a.allele_name LIKE '%%/%%'
 ORDER BY allele"""

_FREQUENCIES = """
SELECT a.allele_name AS allele,
       count(*)::float8 / (SELECT count(*) FROM observation.samples s WHERE s.segment = ANY(%s)) AS frequency
  FROM observation.sample_hla_typing t JOIN reference.hla_alleles a USING (allele_id)
 WHERE t.segment = ANY(%s) GROUP BY a.allele_name ORDER BY frequency DESC, allele"""

_PROTEIN = """
SELECT protein_id, accession, name, length FROM reference.proteins
 WHERE protein_id::text = %s OR upper(accession) = upper(%s) LIMIT 1"""
_COVERED = """
SELECT p.peptide_id, e.sequence, p.start_position AS start, p.end_position AS end
  FROM vocabulary.protein_peptide_mappings p JOIN vocabulary.peptides e USING (peptide_id)
 WHERE p.protein_id = %s AND p.segment = ANY(%s) AND p.start_position IS NOT NULL
 ORDER BY p.start_position, p.end_position, p.peptide_id"""

# Hits first, then the samples without; for a protein, the strongest peptide of it counts.
_INTENSITIES = """
WITH wanted AS ({wanted}),
hits AS (
    SELECT DISTINCT ON (m.sample_id) m.sample_id, m.peptide_id, e.sequence, m.normalized_intensity
      FROM observation.sample_peptide_mappings m
      JOIN vocabulary.peptides e USING (peptide_id)
     WHERE m.peptide_id IN (SELECT peptide_id FROM wanted) AND m.segment = ANY(%s)
     ORDER BY m.sample_id, m.normalized_intensity DESC, e.sequence)
SELECT s.original_sample_number, s.sample_class, s.sample_name, s.annotation,
       (SELECT string_agg(a.allele_name, ', ' ORDER BY a.allele_name) FROM observation.sample_hla_typing t
          JOIN reference.hla_alleles a USING (allele_id) WHERE t.sample_id = s.sample_id) AS sample_hla_typing,
       h.normalized_intensity,
       CASE WHEN h.sample_id IS NOT NULL
            THEN rank() OVER (ORDER BY h.normalized_intensity DESC NULLS LAST) END AS rank,
       h.sequence AS peptide,
       (SELECT b.typed_allele_name FROM observation.sample_peptide_binders b
         WHERE b.sample_id = h.sample_id AND b.peptide_id = h.peptide_id
         ORDER BY b.percentile_rank NULLS LAST, b.raw_score DESC, b.typed_allele_name LIMIT 1) AS best_predicted_binder
  FROM observation.samples s LEFT JOIN hits h USING (sample_id)
 WHERE s.segment = ANY(%s)
 ORDER BY h.normalized_intensity DESC NULLS LAST, s.sample_id LIMIT %s"""
_WANTED = {
    "peptide": "SELECT peptide_id FROM vocabulary.peptides WHERE sequence = upper(%s) AND segment = ANY(%s)",
    "protein": """SELECT p.peptide_id FROM vocabulary.protein_peptide_mappings p
                    JOIN reference.proteins r USING (protein_id)
                   WHERE upper(%s) IN (upper(r.gene_name), upper(r.accession)) AND p.segment = ANY(%s)""",
}

_POSITIONS = """
SELECT e.sequence AS peptide_seq, p.protein_id, p.start_position AS first_aa_position,
       p.end_position AS last_aa_position,
       (SELECT count(DISTINCT m.sample_id) FROM observation.sample_peptide_mappings m
         WHERE m.peptide_id = p.peptide_id AND m.segment = ANY(%s)) AS peptide_count
  FROM vocabulary.protein_peptide_mappings p
  JOIN vocabulary.peptides e USING (peptide_id)
  JOIN reference.proteins r USING (protein_id)
 WHERE upper(%s) IN (upper(r.gene_name), upper(r.accession)) AND p.segment = ANY(%s) AND p.start_position IS NOT NULL
 ORDER BY p.protein_id, p.start_position, p.end_position, e.sequence"""

SEARCH_TYPES = tuple(_WANTED)
RESOLUTIONS = tuple(_FIELDS)
MAX_INTENSITIES = 20_000


async def alleles(pool: Pool, scope: Scope, resolution: str, locus: str | None) -> list[str]:
    """Names of the alleles that the version's samples carry, at a resolution."""
    single = Condition(_ALLELES, (_FIELDS[resolution], scope.segments, locus, locus))
    pairs = Condition(_PAIRS, (scope.segments, locus, locus))
    return [row["allele"] for statement in (single, pairs) for row in await records(pool, statement)]


async def frequencies(pool: Pool, scope: Scope, population: str | None) -> dict[str, float]:
    """Allele -> share of the version's samples that carry it. No population is known here: asking for one is empty."""
    if population is not None:
        return {}
    rows = await records(pool, Condition(_FREQUENCIES, (scope.segments, scope.segments)))
    return {row["allele"]: row["frequency"] for row in rows}


async def coverage(pool: Pool, scope: Scope, protein: str) -> Record:
    """Which residues of a protein the version's peptides cover. `coverage` is null where its length is not known."""
    found = await records(pool, Condition(_PROTEIN, (protein, protein)))
    if not found:
        raise CatalogEntityNotFound(kind="protein", value=protein[:100])
    row = found[0]
    peptides = await records(pool, Condition(_COVERED, (row["protein_id"], scope.segments)))
    covered = _residues([(peptide["start"], peptide["end"]) for peptide in peptides])
    share = round(covered / row["length"], 6) if row["length"] else None
    return {**row, "peptides": peptides, "coveredResidues": covered, "coverage": share}


async def intensities(pool: Pool, scope: Scope, search_type: str, term: str, limit: int) -> list[Record]:
    """One row per sample, those with the peptide (or a peptide of the protein) first."""
    text = _INTENSITIES.replace("{wanted}", _WANTED[search_type])
    values: tuple[Any, ...] = (term, scope.segments, scope.segments, scope.segments, limit)
    return await records(pool, Condition(text, values))


async def positions(pool: Pool, scope: Scope, term: str) -> list[Record]:
    """Where the version's peptides lie on the proteins of a gene or accession."""
    return await records(pool, Condition(_POSITIONS, (scope.segments, term, scope.segments)))


def _residues(ranges: list[tuple[int, int]]) -> int:
    """Residues in the union of ranges sorted by their start."""
    covered = last = 0
    for start, end in ranges:
        covered += max(0, end - max(start - 1, last))
        last = max(last, end)
    return covered
