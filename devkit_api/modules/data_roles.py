"""Which inputs of a module take a data selection: the fields its manifest marks with `x-hla-data-role`.

Source: `inputs` of `manifest_schema_v1.json`. The mark counts on the fields of the contract itself, not deeper.
"""

from __future__ import annotations

import enum
from typing import Any

from devkit_api.modules.contracts import normalise

KEYWORD = "x-hla-data-role"


class DataRole(enum.StrEnum):
    """What of a selection a field takes."""

    URI = "selection.uri"
    VIEW_ID = "selection.view_id"
    IDS = "selection.ids"
    ID_COLUMN = "selection.id_column"
    FORMAT = "selection.format"
    MANIFEST_URI = "selection.manifest_uri"


def role_problem(contract: dict[str, Any] | None) -> str | None:
    """Why the marks of `contract` cannot be used, or None."""
    for name, schema in _fields(contract).items():
        if KEYWORD in schema and schema[KEYWORD] not in list(DataRole):
            return f"marks {str(name)[:100]!r} with a {KEYWORD} that is none of {', '.join(DataRole)}"
    return None


def data_fields(contract: dict[str, Any] | None) -> dict[str, DataRole]:
    """Field -> role, of a contract without a problem."""
    return {name: DataRole(schema[KEYWORD]) for name, schema in _fields(contract).items() if KEYWORD in schema}


def defaults(contract: dict[str, Any] | None) -> dict[str, Any]:
    """Field -> the value the SDK's runner takes when the field is left out."""
    return {name: schema["default"] for name, schema in _fields(contract).items() if "default" in schema}


def _fields(contract: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    properties = normalise(contract or {}).get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: schema for name, schema in properties.items() if isinstance(schema, dict)}
