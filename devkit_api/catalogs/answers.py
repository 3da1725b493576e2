"""What the catalog addresses answer, and which parameters a typed read takes."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from devkit_api.catalogs import filters
from devkit_api.catalogs.entities import Entity
from devkit_api.describe import Parameter
from devkit_api.errors import (
    CatalogNotFound,
    CatalogsOff,
    QueryParameterInvalid,
    VersionNotFound,
)
from devkit_api.schemas import AnswerSchema

# What can go wrong at every address of a catalog.
CATALOG_ERRORS = (CatalogNotFound, CatalogsOff, QueryParameterInvalid, VersionNotFound)

_TEXT = {"type": "string", "minLength": 1, "maxLength": 500}
_BY_PARSER: dict[Any, dict[str, Any]] = {
    filters.number: {"type": "number"},
    filters.text: _TEXT,
    filters.allele_name: {**_TEXT, "examples": ["HLA-A*02:01"]},
    filters.boolean: {"type": "boolean"},
}


class CatalogSchema(AnswerSchema):
    """A catalog and its current version (wire-contract F.1)."""

    id = fields.String(required=True)
    providerKey = fields.String(required=True)
    catalogKey = fields.String(required=True)
    label = fields.String(required=True)
    currentVersion = fields.Dict(required=True, allow_none=True)


class CatalogListSchema(AnswerSchema):
    """Every catalog."""

    catalogs = fields.List(fields.Nested(CatalogSchema), required=True)


class SqlRowsSchema(AnswerSchema):
    """Rows of a query, as objects by column."""

    columns = fields.List(fields.String(), required=True)
    count = fields.Integer(required=True)
    data = fields.List(fields.Dict(), required=True)


class AllelesSchema(AnswerSchema):
    """Alleles that samples carry."""

    alleles = fields.List(fields.String(), required=True)
    count = fields.Integer(required=True)


class FrequenciesSchema(AnswerSchema):
    """Shares of the samples, by allele."""

    frequencies = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    basis = fields.String(required=True)


class CoverageSchema(AnswerSchema):
    """Which residues of a protein are covered."""

    peptides = fields.List(fields.Dict(), required=True)
    coveredResidues = fields.Integer(required=True)
    coverage = fields.Float(required=True, allow_none=True)


class RowsSchema(AnswerSchema):
    """Rows of a read."""

    data = fields.List(fields.Dict(), required=True)
    count = fields.Integer(required=True)


class RankingSchema(AnswerSchema):
    """Peptides by their score."""

    candidate_count = fields.Integer(required=True)
    ranked_peptides = fields.List(fields.Dict(), required=True)
    top_peptides = fields.List(fields.String(), required=True)
    score_stats = fields.Dict(required=True)
    score_curve = fields.Dict(required=True)


def page_shape(entity: Entity) -> dict[str, Any]:
    """JSON Schema of one page of a typed read."""
    return {
        "type": "object",
        "required": [entity.name, "limit", "offset", "version"],
        "properties": {
            entity.name: {"type": "array", "items": {"type": "object"}},
            "total": {"type": "integer", "description": "Rows on all pages, unless `count` was false."},
            "limit": {"type": "integer"},
            "offset": {"type": "integer"},
            "version": {"type": "string"},
        },
    }


def parameters(entity: Entity) -> tuple[Parameter, ...]:
    """The query parameters of a typed read: the window, and the entity's filters."""
    window: dict[str, dict[str, Any]] = {
        "limit": {"type": "integer", "minimum": 1, "maximum": filters.MAX_LIMIT, "default": 100},
        "offset": {"type": "integer", "minimum": 0, "default": 0},
        "count": {"type": "boolean", "default": True},
        "version": {**_TEXT, "description": "A version's id or label; the current one without it."},
        "sort": {"type": "string", "enum": sorted(entity.sorts)},
        "order": {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    }
    asked = {name: _shape(one.parse) for name, one in entity.filters.items()}
    return tuple(Parameter(name, schema) for name, schema in {**window, **asked}.items())


def body_shape(entity: Entity) -> dict[str, Any]:
    """The same parameters as a JSON body; null is as if a parameter were not there."""
    properties = {p.name: {"anyOf": [dict(p.schema), {"type": "null"}]} for p in parameters(entity)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _shape(parser: Any) -> dict[str, Any]:
    if parser is filters.identities:
        ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
        return {"anyOf": [ids, {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18})*$"}]}
    return _BY_PARSER.get(parser) or filters.SHAPES.get(parser) or {"type": "string"}
