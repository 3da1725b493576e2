"""What a data context that names a data view asks for, and what a run is given for it (wire-contract E.4).

`{"type": "data_view", "viewId", "selectedIds"?, "idColumn"?, "format"?}`: the rows of the view are written to the run's
own inputs when the run is prepared; a later change of the view, or a newer version of its catalog, changes nothing.
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


def refusal(field: str, message: str, expected: str = "") -> DataContextInvalid:
    """One finding about a member of the context."""
    finding = {"path": f"/dataContext/{field}", "message": message, **({"expected": expected} if expected else {})}
    made = field_error(DataContextInvalid, [finding])
    assert isinstance(made, DataContextInvalid)  # noqa: S101  for mypy
    return made
