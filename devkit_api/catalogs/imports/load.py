"""Loading files into one new version of a catalog: blocking, in one transaction, so that it is there whole or not.

Rows are parsed one by one and copied to temporary tables; what needs the database is then checked and written set by
set (`steps`). Any problem undoes everything.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import attrs
from psycopg2 import sql

from devkit_api.catalogs.chemistry import allele, peptide_mass
from devkit_api.catalogs.imports import steps
from devkit_api.catalogs.imports.files import RowFile, open_rows
from devkit_api.catalogs.imports.mapping import Mapped, map_columns
from devkit_api.catalogs.imports.parsers import is_missing
from devkit_api.catalogs.imports.report import Report, SourceReport
from devkit_api.catalogs.imports.targets import TARGETS, Target
from devkit_api.catalogs.writer import CatalogSpec, Parent, VersionWriter, settle
from devkit_api.errors import ImportInvalid, ImportUnreadable, VersionNotFound

# One import at a time, in whatever process: reference rows are shared, and two could wait for each other.
_LOCK = 4_100_621
_BATCH = 5_000
_SETTLE_ABOVE = 10_000


@attrs.frozen
class Source:
    """One file for one table. `columns`: field -> column where names differ; `constants`: field -> value for all."""

    path: Path
    name: str
    table: str
    columns: Mapping[str, str] = attrs.Factory(dict)
    constants: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen
class ImportPlan:
    """What becomes one version: `append` continues the catalog's current version, otherwise it stands alone."""

    spec: CatalogSpec
    label: str
    sources: Sequence[Source]
    append: bool = False


class Watch(Protocol):
    """Who looks on."""

    def read(self, source: int, read_bytes: int, rows: int) -> None:
        """Told after each batch of rows; raising ends the import."""

    def writing(self) -> None:
        """All rows are read; the version is being written."""

    def before_commit(self, cursor: Any, version_id: str) -> None:
        """The version is complete in this transaction; raising undoes it."""


@attrs.frozen
class Loaded:
    """The new version."""

    version_id: str
    label: str
    row_counts: dict[str, int]
    report: Report


def load(connection: Any, plan: ImportPlan, watch: Watch) -> Loaded:
    """Write the version. Raises `ImportInvalid` (with the report), `ImportUnreadable` or what `watch` raises."""
    with connection, connection.cursor() as cursor:
        loaded = _Loader(cursor, plan, watch).run()
    if loaded.report.rows > _SETTLE_ABOVE:
        settle(connection)
    return loaded


def current_version(cursor: Any, spec: CatalogSpec) -> Parent | None:
    """What an append continues: the newest ready version."""
    cursor.execute(
        "SELECT version_id::text, segments FROM devkit.catalog_versions WHERE catalog_id = %s AND status = 'ready'"
        " ORDER BY ready_at DESC, segment DESC LIMIT 1",
        [str(spec.catalog_id)],
    )
    row = cursor.fetchone()
    return Parent(*row) if row else None


class _Loader:
    def __init__(self, cursor: Any, plan: ImportPlan, watch: Watch) -> None:
        self._cursor, self._plan, self._watch = cursor, plan, watch
        self._report = Report()
        tables = {source.table for source in plan.sources}
        self._tables = [table for table in steps.ORDER if table in tables]
        self._makes_samples = "samples" not in tables

    def run(self) -> Loaded:
        for table in self._tables:
            self._make_stage(TARGETS[table])
        for number, source in enumerate(self._plan.sources):
            self._stage(number, source)
        self._stop_at_problems()
        self._watch.writing()
        self._cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        parent = current_version(self._cursor, self._plan.spec) if self._plan.append else None
        if self._plan.append and parent is None:
            raise VersionNotFound(catalog=f"{self._plan.spec.provider}/{self._plan.spec.key}", version="current")
        writer = VersionWriter(self._cursor, self._plan.spec, self._plan.label)
        writer.begin(parent)
        self._write(writer, parent)
        counts = writer.finish()
        self._watch.before_commit(self._cursor, str(writer.version_id))
        return Loaded(str(writer.version_id), self._plan.label, counts, self._report)

    def _make_stage(self, target: Target) -> None:
        columns = [f"{field.name} {field.sql_type}" for field in target.fields]
        columns += ["mass double precision"] if target.has("sequence") else []
        listed = ", ".join(columns)
        # Names of this package, never of a file.
        self._cursor.execute(
            f"CREATE TEMPORARY TABLE {_stage(target.table)}"
            f" (source smallint NOT NULL, row_number bigint NOT NULL, {listed}) ON COMMIT DROP"
        )

    def _stage(self, number: int, source: Source) -> None:
        target = TARGETS[source.table]
        with open_rows(source.path, source.name) as file:
            mapped = map_columns(source.name, target, file.columns, source.columns, source.constants)
            columns = {name: file.columns[position] for name, position in mapped.positions.items()}
            noted = SourceReport(source.name, source.table, columns, mapped.ignored)
            self._report.sources.append(noted)
            rows = self._parsed(number, source, file, mapped)
            names = [name for name in target.by_name if name in mapped.positions or name in source.constants]
            columns_sql = ["source", "row_number", *names, *(["mass"] if target.has("sequence") else [])]
            while batch := list(islice(rows, _BATCH)):
                noted.rows += len(batch)
                self._copy(target, columns_sql, [row for row in batch if row])
                self._watch.read(number, file.read_bytes(), noted.rows)
        if not noted.rows:
            raise ImportUnreadable(file=source.name, reason="it has no rows")

    def _parsed(self, number: int, source: Source, file: RowFile, mapped: Mapped) -> Iterator[list[Any] | None]:
        """Values to stage, in the order of the target's fields; None for a row with problems, which are noted."""
        target = TARGETS[source.table]
        wanted = [
            (field, mapped.positions.get(field.name), source.constants.get(field.name))
            for field in target.fields
            if field.name in mapped.positions or field.name in source.constants
        ]
        place = [field.name for field, _, _ in wanted].index("sequence") + 2 if target.has("sequence") else None
        for row_number, row in enumerate(file.rows(), start=1):
            values: list[Any] | None = [number, row_number]
            for field, position, constant in wanted:
                raw = constant if position is None else row[position]
                value, reason = None, ""
                if not is_missing(raw):
                    try:
                        value = field.parse(raw)
                    except ValueError as exc:
                        reason = str(exc)
                elif field.required:
                    reason = "it is empty"
                if reason:
                    self._report.add(source.name, row_number, field.name, reason, raw)
                    values = None
                elif values is not None:
                    values.append(value)
            if values is not None and place is not None:
                values.append(peptide_mass(values[place]))
            yield values

    def _copy(self, target: Target, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer).writerows(rows)
        buffer.seek(0)
        name = sql.Identifier(_stage(target.table))
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._cursor.copy_expert(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(name, listed), buffer)

    def _write(self, writer: VersionWriter, parent: Parent | None) -> None:
        behind = parent.segments if parent else []
        values = {"segment": writer.segment, "visible": [*behind, writer.segment], "parent": behind}
        for table in self._tables:
            stage = _stage(table)
            self._cursor.execute(f"ANALYZE {stage}")
            if table in steps.ALLELES:
                self._cursor.execute(steps.ALLELES[table].format(s=stage))
                names = [row[0] for row in self._cursor.fetchall() if row[0] is not None]
                writer.alleles(found for name in names if (found := allele(name)))
            for statement in steps.checks(table, makes_samples=self._makes_samples):
                self._cursor.execute(statement.format(s=stage), values)
                for source, row_number, field, reason in self._cursor.fetchall():
                    self._report.add(self._plan.sources[source].name, row_number, field, reason)
            self._stop_at_problems()
            for statement in steps.insertions(table, makes_samples=self._makes_samples):
                self._cursor.execute(statement.format(s=stage), values)

    def _stop_at_problems(self) -> None:
        if self._report.count:
            first = str(self._report.shown[0])
            raise ImportInvalid(count=self._report.count, first=first, details=self._report.view())


def _stage(table: str) -> str:
    return f"stage_{table}"
