"""Reading the rows of CSV, TSV and Parquet files, a few at a time."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from devkit_api.errors import ImportUnreadable

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
FORMATS = (*_DELIMITERS, ".parquet")
_BATCH = 10_000
_LONGEST_FIELD = 1_000_000
_LONGEST_LINE = 16_000_000


class RowFile(Protocol):
    """An open file: its columns, its rows, and how many bytes of it have been read."""

    columns: list[str]

    def rows(self) -> Iterator[Sequence[Any]]:
        """Rows in order, as long as the header. Raises `ImportUnreadable`."""

    def read_bytes(self) -> int:
        """For progress."""


@contextmanager
def open_rows(path: Path, name: str) -> Iterator[RowFile]:
    """The rows of the file at `path`, whose form its `name` tells. Raises `ImportUnreadable`."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    if suffix not in FORMATS:
        raise ImportUnreadable(file=name, reason="its name must end in .csv, .tsv, .txt or .parquet (.gz for text)")
    with path.open("rb") as raw:
        yield _Parquet(raw, name) if suffix == ".parquet" else _Text(raw, name, _DELIMITERS[suffix], packed)


class _Text:
    def __init__(self, raw: BinaryIO, name: str, delimiter: str, packed: bool) -> None:
        self._raw, self._name = raw, name
        csv.field_size_limit(_LONGEST_FIELD)
        plain = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        # Kept: when it is collected it closes the file.
        lines = self._lines = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
        try:
            first = lines.readline(_LONGEST_FIELD)
        except (OSError, EOFError, UnicodeDecodeError) as exc:
            raise self._unreadable(exc, 0) from None
        if delimiter == "," and ";" in first and "," not in first:
            delimiter = ";"  # as spreadsheets write it where the comma is for decimals
        elif delimiter == "\t" and "\t" not in first and "," in first:
            delimiter = ","
        self._reader = csv.reader(_chain(first, self._bounded(lines)), delimiter=delimiter, strict=True)
        self.columns = _header(name, self._first_row())

    def rows(self) -> Iterator[Sequence[Any]]:
        width, number = len(self.columns), 0
        try:
            for row in self._reader:
                if not row:
                    continue
                number += 1
                if len(row) != width:
                    reason = f"row {number} has {len(row)} fields, the header {width}"
                    raise ImportUnreadable(file=self._name, reason=reason)
                yield row
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as exc:
            raise self._unreadable(exc, number + 1) from None

    def read_bytes(self) -> int:
        return self._raw.tell()

    def _bounded(self, lines: io.TextIOWrapper) -> Iterator[str]:
        """A packed file of a few megabytes can hold one line of many gigabytes."""
        while line := lines.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise ImportUnreadable(file=self._name, reason=f"a line has {_LONGEST_LINE} characters or more")
            yield line

    def _first_row(self) -> list[str]:
        try:
            return next(self._reader, [])
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as exc:
            raise self._unreadable(exc, 0) from None

    def _unreadable(self, exc: Exception, row: int) -> ImportUnreadable:
        where = f"row {row}" if row else "the header"
        if isinstance(exc, UnicodeDecodeError):
            return ImportUnreadable(file=self._name, reason=f"it is not UTF-8 (near {where})")
        if isinstance(exc, csv.Error):
            return ImportUnreadable(file=self._name, reason=f"{where} is not well-formed ({exc})")
        return ImportUnreadable(file=self._name, reason=f"it is damaged (near {where})")


class _Parquet:
    def __init__(self, raw: BinaryIO, name: str) -> None:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            reason = "Parquet needs pyarrow: pip install 'hla-compass-devkit[parquet]', or convert the file to CSV"
            raise ImportUnreadable(file=name, reason=reason) from None
        self._raw, self._name, self._failure = raw, name, ArrowException
        try:
            self._file = ParquetFile(raw)
        except (ArrowException, OSError, ValueError):
            raise ImportUnreadable(file=name, reason="it is no Parquet file, or damaged") from None
        self.columns = _header(name, self._file.schema_arrow.names)

    def rows(self) -> Iterator[Sequence[Any]]:
        try:
            for batch in self._file.iter_batches(_BATCH):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        except (self._failure, OSError, ValueError):
            raise ImportUnreadable(file=self._name, reason="it is damaged") from None

    def read_bytes(self) -> int:
        return self._raw.tell()


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _header(name: str, columns: Sequence[str]) -> list[str]:
    found = [column.strip() for column in columns]
    if not any(found):
        raise ImportUnreadable(file=name, reason="it has no header")
    lowered = [column.lower() for column in found]
    twice = next((column for column in lowered if lowered.count(column) > 1), None)
    if twice is not None:
        raise ImportUnreadable(file=name, reason=f"two columns are named {twice[:60]!r}")
    return found
