"""Rows of a view as an input of a run."""

from __future__ import annotations

from typing import Any

from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.views.export import write_table
from devkit_api.objects.view_inputs import ONLY_SOURCE, Selection, ViewTable, refusal

Document = dict[str, Any]


async def table_of(name: str | None, scope: Scope, answer: Document, wanted: Selection) -> ViewTable:
    """What a query answered, as a file. Raises `DataContextInvalid` when what is selected is not in it."""
    rows = _selected(answer, wanted)
    written = await write_table(answer["columns"], rows, wanted.form)
    return ViewTable(
        name=name or ONLY_SOURCE,
        content=written.content,
        sha256=written.sha256,
        columns=answer["columns"],
        row_count=len(rows),
        catalog_id=scope.catalog.catalog_id,
        catalog_version_id=scope.version.version_id,
    )


def _selected(answer: Document, wanted: Selection) -> list[Document]:
    """The rows with these ids, in the view's order; every id must be one of a row."""
    rows: list[Document] = answer["data"]
    if wanted.id_column is None or not wanted.selected_ids:
        return rows
    if wanted.id_column not in answer["columns"]:
        raise refusal("idColumn", "is no column of the view", ", ".join(answer["columns"])[:300])
    # A browser may hold an id as text that the database has as a number.
    ids = {str(item) for item in wanted.selected_ids}
    chosen = [row for row in rows if str(row[wanted.id_column]) in ids]
    missing = ids - {str(row[wanted.id_column]) for row in chosen}
    if missing:
        raise refusal("selectedIds", f"holds {len(missing)} id(s) that no row has, such as {min(missing)[:60]!r}")
    return chosen
