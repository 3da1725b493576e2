"""What a data context that names a data view, or one file, asks for, and what a run is given (wire-contract E.4).

`{"type": "data_view", "viewId", "selectedIds"?, "idColumn"?, "format"?}`: the rows of the view are written to the run's
own inputs when the run is prepared; a later change of the view, or a newer version of its catalog, changes nothing.
`{"uri", "format"?}`, flat or in `materialization`: the file is copied there.
"""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

import attrs

from devkit_api.errors import DataContextInvalid
from devkit_api.schemas import field_error
from devkit_api.security.principals import Principal

TYPE = "data_view"
CONTENT_TYPES = {"CSV": "text/csv", "TSV": "text/tab-separated-values", "JSON": "application/json"}
FORMATS = tuple(CONTENT_TYPES)
# The name of the only source of a view without named ones.
ONLY_SOURCE = "selection"
MAX_SELECTED = 50_000
_FORMATS_OF_ENDINGS = {"csv": "CSV", "tsv": "TSV", "json": "JSON", "parquet": "PARQUET"}


@attrs.frozen
class Selection:
    """A view, and the rows of it that are wanted: those whose `id_column` is one of `selected_ids`, or all."""

    view_id: str
    form: str = "CSV"
    selected_ids: tuple[str | int, ...] = ()
    id_column: str | None = None


@attrs.frozen
class ViewTable:
    """The rows of one query of a view, as a file. `sha256` is hex."""

    name: str
    content: bytes = attrs.field(repr=False)
    sha256: str
    columns: list[str]
    row_count: int
    catalog_id: str
    catalog_version_id: str

    def source(self, uri: str, form: str, view_id: str) -> dict[str, Any]:
        """The frozen source that a module reads."""
        return {
            "name": self.name,
            "uri": uri,
            "checksum": self.sha256,
            "sizeBytes": len(self.content),
            "origin": f"data-view:{view_id}",
            "format": form,
            "columns": self.columns,
            "rowCount": self.row_count,
            "catalogId": self.catalog_id,
            "catalogVersionId": self.catalog_version_id,
            "catalogVersionIds": [self.catalog_version_id],
        }


@attrs.frozen
class ViewTables:
    """All of them. A named view has a manifest over its sources; another has one file, which is the selection."""

    tables: list[ViewTable]
    is_named: bool


class Views(Protocol):
    """Where saved views are."""

    async def tables(self, wanted: Selection, principal: Principal) -> ViewTables:
        """The rows of a view now. Raises `DataContextInvalid`, or what a query raises."""


def selection_of(context: dict[str, Any]) -> Selection | None:
    """The view a data context names; None when it names none. Raises `DataContextInvalid`."""
    nested = context.get("selection")
    asked = {**context, **(nested if isinstance(nested, dict) else {})}
    view_id = asked.get("viewId", asked.get("view_id"))
    if view_id is None and context.get("type") != TYPE:
        return None
    try:
        identity = str(UUID(view_id))
    except (TypeError, ValueError, AttributeError):
        raise refusal("viewId", "is no id of a data view", "a UUID; GET /v1/data-views lists them") from None
    form = str(asked.get("format") or "AUTO").upper()
    if form not in {"AUTO", *FORMATS}:
        raise refusal("format", "is not written here", ", ".join(("AUTO", *FORMATS)))
    ids = asked.get("selectedIds", asked.get("selected_ids")) or []
    if not isinstance(ids, list) or len(ids) > MAX_SELECTED or not all(type(item) in (str, int) for item in ids):
        raise refusal("selectedIds", "is no list of ids", f"at most {MAX_SELECTED} numbers or texts")
    column = asked.get("idColumn", asked.get("id_column"))
    if column is not None and not isinstance(column, str):
        raise refusal("idColumn", "is no name of a column", "a column of the view")
    if ids and column is None:
        raise refusal("idColumn", "is missing", "the column of the view whose values `selectedIds` holds")
    return Selection(identity, "CSV" if form == "AUTO" else form, tuple(ids), column)


def file_of(context: dict[str, Any]) -> dict[str, Any] | None:
    """The file a data context names, as a source; None when it names none. Raises `DataContextInvalid`."""
    parts = [context, *(context[name] for name in ("selection", "materialization") if _is_object(context.get(name)))]
    asked = {key: value for part in parts for key, value in part.items() if value is not None}
    address = asked.get("uri", asked.get("selection_uri"))
    if address is None:
        return None
    if not isinstance(address, str):
        raise refusal("uri", "is no address", "s3://… of an upload or of a run's file, or local://root/path")
    form = asked.get("format") or _FORMATS_OF_ENDINGS.get(address.rpartition(".")[2].lower())
    if form is not None and not isinstance(form, str):
        raise refusal("format", "is no text", "such as CSV")
    told = {key: asked[key] for key in ("checksum", "sizeBytes", "columns") if key in asked}
    rows = {"rowCount": asked["row_count"]} if "row_count" in asked else {}
    return {"uri": address, **({"format": form.upper()} if form else {}), **told, **rows}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def refusal(field: str, message: str, expected: str = "") -> DataContextInvalid:
    """One finding about a member of the context."""
    finding = {"path": f"/dataContext/{field}", "message": message, **({"expected": expected} if expected else {})}
    made = field_error(DataContextInvalid, [finding])
    assert isinstance(made, DataContextInvalid)  # noqa: S101  for mypy
    return made
