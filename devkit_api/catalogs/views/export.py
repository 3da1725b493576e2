"""Rows of a query as the bytes of a file."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs


@attrs.frozen
class Table:
    """A written file. `sha256` is hex."""

    content: bytes
    sha256: str


async def write_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], form: str) -> Table:
    """`CSV`, `TSV` or `JSON`."""
    content = await asyncio.to_thread(_write, columns, rows, form)
    return Table(content, hashlib.sha256(content).hexdigest())


async def as_stream(content: bytes) -> AsyncIterator[bytes]:
    """For the object store."""
    yield content


def _write(columns: Sequence[str], rows: Sequence[dict[str, Any]], form: str) -> bytes:
    if form == "JSON":
        return json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False).encode()
    text = io.StringIO()
    writer = csv.writer(text, delimiter="," if form == "CSV" else "\t")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value, ensure_ascii=False)
    return value
