"""Ranking peptides by a position-weight matrix (wire-contract F.4), scored in PostgreSQL."""

from __future__ import annotations

import asyncio
from statistics import fmean, median
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.catalogs.filters import Condition, allele_name
from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.reads import Record, records
from devkit_api.database.pool import Pool
from devkit_api.schemas import StrictSchema

MAX_TOP = 500
_CURVE_POINTS = 200

# Weights come as one array, row by row; a residue that is no column of the matrix weighs nothing.
_SCORES = """
SELECT e.peptide_id, e.sequence,
       (SELECT coalesce(sum((%s::float8[])[(i - 1) * %s + strpos(%s, substr(e.sequence, i, 1))]), 0)
          FROM generate_series(1, %s) i WHERE strpos(%s, substr(e.sequence, i, 1)) > 0) AS score
  FROM vocabulary.peptides e
 WHERE e.segment = ANY(%s) AND e.length = %s
   AND (%s::text[] IS NULL OR EXISTS (
        SELECT FROM observation.sample_peptide_mappings m
          JOIN observation.sample_hla_typing t USING (sample_id)
          JOIN reference.hla_alleles a USING (allele_id)
         WHERE m.peptide_id = e.peptide_id AND m.segment = ANY(%s)
           AND EXISTS (SELECT FROM unnest(%s::text[]) x WHERE strpos(a.allele_name, x) > 0)))
 ORDER BY score DESC, e.sequence"""


class SimilaritySchema(StrictSchema):
    """Body of `POST …/peptide-similarity`."""

    length = fields.Integer(required=True, strict=True, validate=validate.Range(1, 100))
    amino_acids = fields.List(
        fields.String(validate=validate.Regexp(r"^[A-Za-z]\Z")), required=True, validate=validate.Length(1, 52)
    )
    matrix = fields.List(fields.List(fields.Float(allow_nan=False)), required=True, validate=validate.Length(1, 100))
    top_n = fields.Integer(strict=True, load_default=25, validate=validate.Range(1, MAX_TOP))
    hla_alleles = fields.List(
        fields.String(validate=validate.Length(1, 100)), allow_none=True, validate=validate.Length(1, 200)
    )

    @validates_schema(skip_on_field_errors=True)
    def check_shape(self, data: dict[str, Any], **_: Any) -> None:
        """The matrix has `length` rows of one weight per amino acid, and no amino acid twice."""
        columns = len(data["amino_acids"])
        if len(data["matrix"]) != data["length"] or any(len(row) != columns for row in data["matrix"]):
            raise ValidationError(f"must have {data['length']} rows of {columns} numbers", "matrix")
        if len({code.upper() for code in data["amino_acids"]}) != columns:
            raise ValidationError("names an amino acid twice", "amino_acids")


async def rank(pool: Pool, scope: Scope, body: dict[str, Any]) -> Record:
    """The best peptides of the length, figures over all of them, and a thinned-out score curve."""
    codes = "".join(body["amino_acids"]).upper()
    weights = [float(weight) for row in body["matrix"] for weight in row]
    names = await asyncio.to_thread(_names, body.get("hla_alleles") or []) or None
    values = (
        weights, len(codes), codes, body["length"], codes, scope.segments, body["length"], names, scope.segments, names,
    )  # fmt: skip
    rows = await records(pool, Condition(_SCORES, values))
    top = [{"rank": number, **row} for number, row in enumerate(rows[: body["top_n"]], start=1)]
    scores = [row["score"] for row in rows]
    return {
        "candidate_count": len(rows),
        "amino_acids": body["amino_acids"],
        "ranked_peptides": top,
        "top_peptides": [row["sequence"] for row in top],
        "score_stats": _stats(scores),
        "score_curve": {
            "total_ranked_peptides": len(rows),
            "points": [{"rank": i + 1, "score": scores[i]} for i in _thinned(len(scores))],
            "highlight_points": [{"rank": row["rank"], "score": row["score"]} for row in top],
        },
    }


def _names(given: list[str]) -> list[str]:
    return [allele_name("hla_alleles", name) for name in given]


def _stats(scores: list[float]) -> dict[str, float | None]:
    if not scores:
        return {"max": None, "min": None, "mean": None, "median": None}
    return {"max": scores[0], "min": scores[-1], "mean": fmean(scores), "median": median(scores)}


def _thinned(count: int) -> list[int]:
    """At most `_CURVE_POINTS` indexes, first and last among them."""
    if count <= _CURVE_POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_CURVE_POINTS - 1)) for i in range(_CURVE_POINTS)})
