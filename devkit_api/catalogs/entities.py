"""The typed reads: peptides, proteins and samples with their filters, orders and fields (wire-contract F.3).

A page is cut in an inner query, so that counts and details are looked up for the rows of the page alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from devkit_api.catalogs.filters import (
    ALLELE_IDS,
    Condition,
    Filter,
    Query,
    allele_name,
    allele_values,
    choice,
    identities,
    number,
    text,
    whole,
)


@attrs.frozen
class Entity:
    """One kind of typed read. `observed` frames conditions on observations; `details` are for the page's rows."""

    name: str
    table: str
    key: str
    scope: Condition
    filters: Mapping[str, Filter]
    sorts: Mapping[str, str]
    details: str
    observed: str = ""


def _equals(expression: str) -> Any:
    return lambda value: Condition(f"{expression} = %s", (value,))


def _same_text(expression: str) -> Any:
    return lambda value: Condition(f"upper({expression}) = upper(%s)", (value,))


def _contains(*expressions: str) -> Any:
    any_of = " OR ".join(f"strpos(upper({expression}), upper(%s)) > 0" for expression in expressions)
    return lambda value: Condition(f"({any_of})", (value,) * len(expressions))


def _compare(expression: str, operator: str) -> Any:
    return lambda value: Condition(f"{expression} {operator} %s", (value,))


def _any_of(expression: str) -> Any:
    return lambda values: Condition(f"{expression} = ANY(%s)", (values,))


def _typed(expression: str) -> Any:
    return lambda name: Condition(
        f"EXISTS (SELECT FROM observation.sample_hla_typing t WHERE t.sample_id = {expression}"
        f" AND t.allele_id IN {ALLELE_IDS})",
        allele_values(name),
    )


def _exists(source: str, condition: str) -> Any:
    return lambda values: Condition(f"EXISTS (SELECT FROM {source} WHERE {condition})", (values,))


_LENGTH = whole(0, 100_000)

PEPTIDES = Entity(
    name="peptides",
    table="vocabulary.peptides e",
    key="peptide_id",
    scope=Condition("e.segment = ANY(%s)"),
    observed="EXISTS (SELECT FROM observation.sample_peptide_mappings m WHERE m.peptide_id = e.peptide_id"
    " AND m.segment = ANY(%s) AND {conditions})",
    filters={
        "search": Filter(text, lambda value: Condition("strpos(e.sequence, upper(%s)) > 0", (value,))),
        "sequence": Filter(text, lambda value: Condition("e.sequence = upper(%s)", (value,))),
        "length": Filter(_LENGTH, _equals("e.length")),
        "minLength": Filter(_LENGTH, _compare("e.length", ">=")),
        "maxLength": Filter(_LENGTH, _compare("e.length", "<=")),
        "min_intensity": Filter(number, _compare("m.normalized_intensity", ">="), on_observation=True),
        "hla_allele": Filter(allele_name, _typed("m.sample_id"), on_observation=True),
        "sample_ids": Filter(identities, _any_of("m.sample_id"), on_observation=True),
        "peptide_ids": Filter(identities, _any_of("e.peptide_id")),
        "protein_ids": Filter(
            identities,
            _exists("vocabulary.protein_peptide_mappings p", "p.peptide_id = e.peptide_id AND p.protein_id = ANY(%s)"),
        ),
    },
    sorts={
        "id": "e.peptide_id", "peptide_id": "e.peptide_id", "sequence": "e.sequence", "length": "e.length",
        "mass": "e.mass", "created_at": "e.created_at",
    },
    details="""
SELECT e.peptide_id AS id, e.peptide_id, e.sequence, e.length, e.mass,
       (SELECT count(DISTINCT m.sample_id) FROM observation.sample_peptide_mappings m
         WHERE m.peptide_id = e.peptide_id AND m.segment = ANY(%s)) AS sample_count,
       e.created_at, e.created_at AS updated_at""",
)  # fmt: skip

# For one sample: what was seen of each peptide in it, and the typed allele predicted to bind it best.
PEPTIDES_OF_A_SAMPLE = """,
       o.q_value, o.normalized_intensity,
       (SELECT b.typed_allele_name FROM observation.sample_peptide_binders b
         WHERE b.sample_id = o.sample_id AND b.peptide_id = e.peptide_id
         ORDER BY b.percentile_rank NULLS LAST, b.raw_score DESC, b.typed_allele_name LIMIT 1) AS best_predicted_binder,
       (SELECT string_agg(a.allele_name, ', ' ORDER BY a.allele_name) FROM observation.sample_hla_typing t
          JOIN reference.hla_alleles a USING (allele_id) WHERE t.sample_id = o.sample_id) AS hla_typing"""
OBSERVATION_OF_A_SAMPLE = """
  LEFT JOIN LATERAL (SELECT m.sample_id, min(m.q_value) AS q_value, max(m.normalized_intensity) AS normalized_intensity
                       FROM observation.sample_peptide_mappings m
                      WHERE m.peptide_id = e.peptide_id AND m.sample_id = %s AND m.segment = ANY(%s)
                      GROUP BY m.sample_id) o ON true"""

PROTEINS = Entity(
    name="proteins",
    table="reference.proteins e",
    key="protein_id",
    scope=Condition(
        "EXISTS (SELECT FROM vocabulary.protein_peptide_mappings v"
        " WHERE v.protein_id = e.protein_id AND v.segment = ANY(%s))"
    ),
    observed="EXISTS (SELECT FROM vocabulary.protein_peptide_mappings p"
    " JOIN observation.sample_peptide_mappings m USING (peptide_id)"
    " WHERE p.protein_id = e.protein_id AND m.segment = ANY(%s) AND {conditions})",
    filters={
        "search": Filter(text, _contains("coalesce(e.accession, '')", "coalesce(e.gene_name, '')", "e.name")),
        "accession": Filter(text, _same_text("e.accession")),
        "name": Filter(text, _contains("e.name")),
        "gene_name": Filter(text, _same_text("e.gene_name")),
        "min_length": Filter(_LENGTH, _compare("e.length", ">=")),
        "max_length": Filter(_LENGTH, _compare("e.length", "<=")),
        "sample_ids": Filter(identities, _any_of("m.sample_id"), on_observation=True),
        "peptide_ids": Filter(
            identities,
            _exists("vocabulary.protein_peptide_mappings p", "p.protein_id = e.protein_id AND p.peptide_id = ANY(%s)"),
        ),
        "protein_ids": Filter(identities, _any_of("e.protein_id")),
    },
    sorts={
        "id": "e.protein_id", "protein_id": "e.protein_id", "accession": "e.accession", "name": "e.name",
        "gene_name": "e.gene_name", "length": "e.length",
    },
    details="""
SELECT e.protein_id AS id, e.protein_id, e.accession, e.gene_name, e.name, e.organism, e.sequence, e.length,
       e.description,
       (SELECT count(DISTINCT p.peptide_id) FROM vocabulary.protein_peptide_mappings p
         WHERE p.protein_id = e.protein_id AND p.segment = ANY(%s)) AS peptide_count""",
)  # fmt: skip

SAMPLES = Entity(
    name="samples",
    table="observation.samples e",
    key="sample_id",
    scope=Condition("e.segment = ANY(%s)"),
    observed="EXISTS (SELECT FROM observation.sample_peptide_mappings m WHERE m.sample_id = e.sample_id"
    " AND m.segment = ANY(%s) AND {conditions})",
    filters={
        "search": Filter(text, _contains("e.sample_name", "e.annotation")),
        "organ": Filter(
            text,
            _exists("reference.organs r", "r.organ_id = e.organ_id AND upper(r.organ_name) = upper(%s)"),
        ),
        "sex": Filter(choice("female", "male"), _equals("e.sex")),
        "condition": Filter(
            text,
            _exists(
                "observation.sample_diseases s JOIN reference.diseases d USING (disease_id)",
                "s.sample_id = e.sample_id AND strpos(upper(d.disease_name), upper(%s)) > 0",
            ),
        ),
        "type": Filter(text, _same_text("e.sample_type")),
        "sample_class": Filter(text, _same_text("e.sample_class")),
        "hla_allele": Filter(allele_name, _typed("e.sample_id")),
        "sample_ids": Filter(identities, _any_of("e.sample_id")),
        "peptide_ids": Filter(identities, _any_of("m.peptide_id"), on_observation=True),
        "protein_ids": Filter(
            identities,
            _exists("vocabulary.protein_peptide_mappings p", "p.peptide_id = m.peptide_id AND p.protein_id = ANY(%s)"),
            on_observation=True,
        ),
    },
    sorts={
        "id": "e.sample_id", "sample_id": "e.sample_id", "name": "e.sample_name", "sample_class": "e.sample_class",
        "created_at": "e.created_at",
    },
    details="""
SELECT e.sample_id AS id, e.sample_id, e.sample_name AS name, e.original_sample_number, e.sample_class,
       e.sample_type, e.sex, e.annotation, e.created_at,
       (SELECT organ_name FROM reference.organs r WHERE r.organ_id = e.organ_id) AS organ,
       (SELECT cell_line_name FROM reference.cell_lines r WHERE r.cell_line_id = e.cell_line_id) AS cell_line,
       (SELECT string_agg(d.disease_name, ', ' ORDER BY d.disease_name) FROM observation.sample_diseases s
          JOIN reference.diseases d USING (disease_id) WHERE s.sample_id = e.sample_id) AS condition,
       (SELECT string_agg(a.allele_name, ', ' ORDER BY a.allele_name) FROM observation.sample_hla_typing t
          JOIN reference.hla_alleles a USING (allele_id) WHERE t.sample_id = e.sample_id) AS hla_typing""",
)  # fmt: skip

ENTITIES = {entity.name: entity for entity in (PEPTIDES, PROTEINS, SAMPLES)}


def where(entity: Entity, query: Query, segments: list[int]) -> Condition:
    """The WHERE clause. Conditions on observations hold for one and the same observation."""
    parts = [entity.scope.text]
    values: list[Any] = [segments]
    observed = [
        entity.filters[name].condition(v) for name, v in query.filters.items() if entity.filters[name].on_observation
    ]
    plain = [
        entity.filters[name].condition(v)
        for name, v in query.filters.items()
        if not entity.filters[name].on_observation
    ]
    for condition in plain:
        parts.append(condition.text)
        values.extend(condition.values)
    if observed:
        parts.append(entity.observed.format(conditions=" AND ".join(c.text for c in observed)))
        values.append(segments)
        values.extend(value for condition in observed for value in condition.values)
    return Condition(" AND ".join(parts), tuple(values))


def page_statement(entity: Entity, query: Query, segments: list[int]) -> Condition:
    """The rows of one page, each with its details."""
    chosen = where(entity, query, segments)
    direction = " DESC" if query.descending else ""
    key = f"e.{entity.key}"
    by = entity.sorts[query.sort] if query.sort else key
    order = f"{by}{direction} NULLS LAST, {key}" if by != key else f"{key}{direction}"
    details, source = entity.details, ""
    extra: list[Any] = []
    one_sample: list[int] = query.filters.get("sample_ids", []) if entity is PEPTIDES else []
    if len(one_sample) == 1:
        details, source, extra = details + PEPTIDES_OF_A_SAMPLE, OBSERVATION_OF_A_SAMPLE, [one_sample[0], segments]
    # Every piece is a constant of this module; values are parameters.
    page = f"SELECT e.* FROM {entity.table} WHERE {chosen.text} ORDER BY {order} LIMIT %s OFFSET %s"  # noqa: S608
    text_ = f"{details} FROM ({page}) e{source} ORDER BY {order}"
    detail_values = [segments] * entity.details.count("%s")
    values = (*detail_values, *chosen.values, query.limit, query.offset, *extra)
    return _of_one_segment(Condition(text_, values), segments)


def count_statement(entity: Entity, query: Query, segments: list[int]) -> Condition:
    """How many rows there are on all pages."""
    chosen = where(entity, query, segments)
    statement = f"SELECT count(*) FROM {entity.table} WHERE {chosen.text}"  # noqa: S608  constants
    return _of_one_segment(Condition(statement, chosen.values), segments)


def _of_one_segment(statement: Condition, segments: list[int]) -> Condition:
    """A version of one segment asks for equality: index entries then come in an order that saves sorting them."""
    if len(segments) != 1:
        return statement
    text_ = statement.text.replace("segment = ANY(%s)", "segment = %s")
    return Condition(text_, tuple(segments[0] if value is segments else value for value in statement.values))
