"""Reading the rows of CSV, TSV and Parquet files, a few at a time."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import attrs

from devkit_api.errors import ImportTooLarge, ImportUnreadable

# What a damaged file raises: `gzip` lets errors of the packed stream itself through as they are.
_DAMAGED = (OSError, EOFError, zlib.error, UnicodeDecodeError)
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
FORMATS = (*_DELIMITERS, ".parquet")
_BATCH = 10_000
_LONGEST_FIELD = 1_000_000
_LONGEST_ROW = 16_000_000
# What one file may become when it is unpacked; a file that is itself larger may be read as it is.
MAX_ROWS = 50_000_000
MAX_BYTES = 4 * 1024**3
# A group of rows of a Parquet file is unpacked at once.
_LARGEST_GROUP = 1024**3


class RowFile(Protocol):
    """An open file: its columns, its rows, and how many bytes of it have been read."""

    columns: list[str]

    def rows(self) -> Iterator[Sequence[Any]]:
        """Rows in order, as long as the header. Raises `ImportUnreadable`, `ImportTooLarge`."""

    def read_bytes(self) -> int:
        """For progress."""


@contextmanager
def open_rows(path: Path, name: str) -> Iterator[RowFile]:
    """The rows of the file at `path`, whose form its `name` tells. Raises `ImportUnreadable`, `ImportTooLarge`."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    if suffix not in FORMATS:
        raise ImportUnreadable(file=name, reason="its name must end in .csv, .tsv, .txt or .parquet (.gz for text)")
    with path.open("rb") as raw:
        size = max(MAX_BYTES, path.stat().st_size)
        bounds = _Bounds(name, MAX_ROWS, size)
        yield _Parquet(raw, bounds) if suffix == ".parquet" else _Text(raw, bounds, _DELIMITERS[suffix], packed)


@attrs.define
class _Bounds:
    """How much of a file has been unpacked, and how much may be."""

    name: str
    max_rows: int
    max_bytes: int
    rows: int = 0
    seen_bytes: int = 0

    def add(self, rows: int, size: int) -> None:
        """Count what comes next. Raises `ImportTooLarge`."""
        self.rows += rows
        self.seen_bytes += size
        self.check(self.rows, self.seen_bytes)

    def check(self, rows: int, size: int) -> None:
        """Raises `ImportTooLarge`."""
        if rows > self.max_rows:
            raise ImportTooLarge(file=self.name, limit=self.max_rows, unit="rows")
        if size > self.max_bytes:
            raise ImportTooLarge(file=self.name, limit=self.max_bytes, unit="bytes when it is unpacked")


class _Text:
    def __init__(self, raw: BinaryIO, bounds: _Bounds, delimiter: str, packed: bool) -> None:
        self._raw, self._bounds, self._name = raw, bounds, bounds.name
        self._row = 0  # the one that is read; the header is none
        csv.field_size_limit(_LONGEST_FIELD)
        plain = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        # Kept: when it is collected it closes the file.
        lines = self._lines = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
        try:
            first = lines.readline(_LONGEST_FIELD)
            self._characters = len(first)  # read since the reader last returned a row
        except _DAMAGED as exc:
            raise self._unreadable(exc, 0) from None
        if delimiter == "," and ";" in first and "," not in first:
            delimiter = ";"  # as spreadsheets write it where the comma is for decimals
        elif delimiter == "\t" and "\t" not in first and "," in first:
            delimiter = ","
        self._reader = csv.reader(_chain(first, self._bounded(lines)), delimiter=delimiter, strict=True)
        self.columns = _header(self._name, self._first_row())
        self._row, self._characters = 1, 0

    def rows(self) -> Iterator[Sequence[Any]]:
        width = len(self.columns)
        try:
            for row in self._reader:
                self._characters = 0
                if not row:
                    continue
                self._bounds.add(1, 0)
                if len(row) != width:
                    reason = f"row {self._row} has {len(row)} fields, the header {width}"
                    raise ImportUnreadable(file=self._name, reason=reason)
                self._row += 1
                yield row
        except (*_DAMAGED, csv.Error) as exc:
            raise self._unreadable(exc, self._row) from None

    def read_bytes(self) -> int:
        return self._raw.tell()

    def _bounded(self, lines: io.TextIOWrapper) -> Iterator[str]:
        """A packed file of a few megabytes can hold one row of many gigabytes, in one line or in quotes over many."""
        while line := lines.readline(_LONGEST_ROW):
            self._characters += len(line)
            if self._characters >= _LONGEST_ROW:
                where = f"row {self._row}" if self._row else "the header"
                raise ImportUnreadable(file=self._name, reason=f"{where} has {_LONGEST_ROW} characters or more")
            self._bounds.add(0, len(line))
            yield line

    def _first_row(self) -> list[str]:
        try:
            return next(self._reader, [])
        except (*_DAMAGED, csv.Error) as exc:
            raise self._unreadable(exc, 0) from None

    def _unreadable(self, exc: Exception, row: int) -> ImportUnreadable:
        where = f"row {row}" if row else "the header"
        if isinstance(exc, UnicodeDecodeError):
            return ImportUnreadable(file=self._name, reason=f"it is not UTF-8 (near {where})")
        if isinstance(exc, csv.Error):
            return ImportUnreadable(file=self._name, reason=f"{where} is not well-formed ({exc})")
        return ImportUnreadable(file=self._name, reason=f"it is damaged (near {where})")


class _Parquet:
    def __init__(self, raw: BinaryIO, bounds: _Bounds) -> None:
        name = bounds.name
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            reason = "Parquet needs pyarrow: pip install 'hla-compass-devkit[parquet]', or convert the file to CSV"
            raise ImportUnreadable(file=name, reason=reason) from None
        self._raw, self._name, self._bounds, self._failure = raw, name, bounds, ArrowException
        try:
            plain = ParquetFile(raw)
            self._check_sizes(plain.metadata)
            found = [field.name for field in plain.schema_arrow if not field.type.num_fields or _is_list(field.type)]
            paths = [plain.schema.column(number).path for number in range(len(plain.schema))]
            # Texts that repeat stay one text: written out, a small file of them is many gigabytes.
            texts = [path for path in paths if path.partition(".")[0] in found]
            self._file = ParquetFile(raw, metadata=plain.metadata, read_dictionary=texts)
        except (ArrowException, OSError, ValueError):
            raise ImportUnreadable(file=name, reason="it is no Parquet file, or damaged") from None
        self._names, self.columns = found, _header(name, found)

    def rows(self) -> Iterator[Sequence[Any]]:
        try:
            for batch in self._file.iter_batches(_BATCH, columns=self._names):
                columns = [self._values(column) for column in batch.columns]
                self._bounds.add(batch.num_rows, batch.nbytes)
                yield from zip(*columns, strict=True)
        except (self._failure, OSError, ValueError):
            raise ImportUnreadable(file=self._name, reason="it is damaged") from None

    def read_bytes(self) -> int:
        return self._raw.tell()

    def _values(self, column: Any) -> list[Any]:
        """Equal texts of a dictionary are one object, and count as often as they are there."""
        if _is_list(column.type):
            items, lengths = iter(self._values(column.flatten())), column.value_lengths().to_pylist()
            return [None if length is None else list(islice(items, length)) for length in lengths]
        if not hasattr(column, "dictionary"):
            return list(column.to_pylist())
        texts = column.dictionary.to_pylist()
        lengths = [len(text) if isinstance(text, (str, bytes)) else 0 for text in texts]
        if max(lengths, default=0) > _LONGEST_FIELD:
            raise ImportUnreadable(file=self._name, reason=f"a text has more than {_LONGEST_FIELD} characters")
        places = column.indices.to_pylist()
        self._bounds.add(0, sum(lengths[place] for place in places if place is not None))
        return [None if place is None else texts[place] for place in places]

    def _check_sizes(self, metadata: Any) -> None:
        groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
        self._bounds.check(metadata.num_rows, sum(groups))
        if max(groups, default=0) > _LARGEST_GROUP:
            raise ImportTooLarge(file=self._name, limit=_LARGEST_GROUP, unit="bytes in one group of rows")


def _is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list of plain values; other nested ones are no fields of any table."""
    is_list = kind.num_fields == 1 and hasattr(kind, "value_type") and not hasattr(kind, "list_size")
    return is_list and not kind.value_type.num_fields


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
