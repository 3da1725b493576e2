"""Writing a catalog version: blocking, in one transaction of the caller, so a version is there whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from psycopg2 import sql
from psycopg2.extras import Json, execute_values

from devkit_api.catalogs.chemistry import AlleleName
from devkit_api.catalogs.ids import catalog_id, version_id
from devkit_api.errors import VersionExists

_PAGE = 5_000
_TIERS = {
    "observation": (
        "samples", "sample_hla_typing", "sample_diseases", "raw_files", "search_sessions", "sample_allele_scoring",
        "sample_peptide_mappings",
    ),
    "vocabulary": (
        "peptides", "peptidoforms", "protein_peptide_mappings", "peptide_binding_predictions", "epitope_references",
    ),
    "reference": ("organs", "diseases", "cell_lines", "hla_alleles", "proteins"),
}  # fmt: skip
TABLES = {table: tier for tier, tables in _TIERS.items() for table in tables}
VERSIONED = tuple(table for table, tier in TABLES.items() if tier != "reference")


@attrs.frozen
class CatalogSpec:
    """A catalog to be made, or found by its keys."""

    provider: str
    key: str
    label: str
    description: str
    is_demo: bool = False

    @property
    def catalog_id(self) -> uuid.UUID:
        """Follows from the keys."""
        return catalog_id(self.provider, self.key)


@attrs.frozen
class Parent:
    """The version that an append continues, and the segments it sees."""

    version_id: str
    segments: list[int]


def settle(connection: Any) -> None:
    """After many new rows: statistics for the planner, and pages marked as visible to all, so that reads by index need
    not look at the rows. Blocking; outside a transaction.
    """
    tables = sql.SQL(", ").join(sql.Identifier(tier, table) for table, tier in TABLES.items())
    autocommit, connection.autocommit = connection.autocommit, True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("VACUUM (ANALYZE) {}").format(tables))
    connection.autocommit = autocommit


class VersionWriter:
    """Fills one new version. Rows get its segment; `finish` counts them and makes it ready."""

    def __init__(self, cursor: Any, spec: CatalogSpec, label: str) -> None:
        self._cursor = cursor
        self._spec = spec
        self._label = label
        self.version_id = version_id(spec.catalog_id, label)
        self.segment = 0
        self._behind: list[int] = []

    def begin(self, parent: Parent | None = None) -> None:
        """Make the catalog if it is not there, and the version. Raises `VersionExists`."""
        spec = self._spec
        self._behind = parent.segments if parent else []
        self._cursor.execute(
            "INSERT INTO devkit.catalogs (catalog_id, provider_key, catalog_key, label, description, is_demo)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (provider_key, catalog_key) DO NOTHING",
            [str(spec.catalog_id), spec.provider, spec.key, spec.label, spec.description, spec.is_demo],
        )
        self._cursor.execute(
            "INSERT INTO devkit.catalog_versions (version_id, catalog_id, version_label, mode, parent_id, segments)"
            " VALUES (%s, %s, %s, %s, %s, '{}') ON CONFLICT (catalog_id, version_label) DO NOTHING RETURNING segment",
            [
                str(self.version_id), str(spec.catalog_id), self._label, "append" if parent else "replace",
                parent.version_id if parent else None,
            ],
        )  # fmt: skip
        row = self._cursor.fetchone()
        if row is None:
            raise VersionExists(catalog=f"{spec.provider}/{spec.key}", version=self._label)
        self.segment = row[0]

    def rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of a versioned table."""
        segment = self.segment
        self._insert(table, [*columns, "segment"], ((*row, segment) for row in rows))

    def rows_with_ids(
        self, table: str, id_column: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> list[int]:
        """Add rows of a versioned table; their new ids, in the order of the rows."""
        segment = self.segment
        statement = self._statement(table, [*columns, "segment"]) + sql.SQL(" RETURNING {}").format(
            sql.Identifier(id_column)
        )
        values = ((*row, segment) for row in rows)
        made = execute_values(self._cursor, statement.as_string(self._cursor), values, page_size=_PAGE, fetch=True)
        return [row[0] for row in made]

    def alleles(self, names: Iterable[AlleleName]) -> dict[str, int]:
        """Allele name -> id, made where missing."""
        rows = [(a.name, a.locus, a.mhc_class) for a in names]
        return self._reference("hla_alleles", "allele_id", ["allele_name", "locus", "mhc_class"], rows)

    def named(self, table: str, id_column: str, name_column: str, names: Iterable[str]) -> dict[str, int]:
        """Organ, disease or cell line name -> id, made where missing."""
        return self._reference(table, id_column, [name_column], [(name,) for name in names])

    def proteins(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[tuple[str, str], int]:
        """(name, organism) -> id, made where missing; `columns` start with these two.

        One that is known under another name is found by its accession.
        """
        self._insert("proteins", columns, rows, " ON CONFLICT DO NOTHING")
        self._cursor.execute(
            "SELECT name, organism, protein_id FROM reference.proteins WHERE name = ANY(%s)", [[row[0] for row in rows]]
        )
        found = {(name, organism): protein_id for name, organism, protein_id in self._cursor.fetchall()}
        place = columns.index("accession")
        unknown = {row[place]: (row[0], row[1]) for row in rows if (row[0], row[1]) not in found}
        self._cursor.execute(
            "SELECT accession, protein_id FROM reference.proteins WHERE accession = ANY(%s)", [list(unknown)]
        )
        return {**found, **{unknown[accession]: protein_id for accession, protein_id in self._cursor.fetchall()}}

    def finish(self) -> dict[str, int]:
        """Count the rows the version sees and make it ready; from here on nothing of it changes."""
        counts = {table: self._count(table) for table in VERSIONED}
        self._cursor.execute(
            "UPDATE devkit.catalog_versions SET status = 'ready', ready_at = clock_timestamp(), row_counts = %s,"
            " segments = %s::integer[] WHERE version_id = %s",
            [Json(counts), self._segments, str(self.version_id)],
        )
        return counts

    @property
    def _segments(self) -> list[int]:
        return [*self._behind, self.segment]

    def _count(self, table: str) -> int:
        name = sql.Identifier(TABLES[table], table)
        self._cursor.execute(sql.SQL("SELECT count(*) FROM {} WHERE segment = ANY(%s)").format(name), [self._segments])
        return int(self._cursor.fetchone()[0])

    def _reference(
        self, table: str, id_column: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> dict[str, int]:
        self._insert(table, columns, rows, " ON CONFLICT DO NOTHING")
        statement = sql.SQL("SELECT {}, {} FROM {} WHERE {} = ANY(%s)").format(
            sql.Identifier(columns[0]), sql.Identifier(id_column), sql.Identifier("reference", table),
            sql.Identifier(columns[0]),
        )  # fmt: skip
        self._cursor.execute(statement, [[row[0] for row in rows]])
        ids = dict(self._cursor.fetchall())
        # In the order of `rows`: what follows may go by position.
        return {row[0]: ids[row[0]] for row in rows}

    def _insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], conflict: str = "") -> None:
        statement = self._statement(table, columns) + sql.SQL(conflict)
        execute_values(self._cursor, statement.as_string(self._cursor), rows, page_size=_PAGE)

    @staticmethod
    def _statement(table: str, columns: Sequence[str]) -> sql.Composed:
        name = sql.Identifier(TABLES[table], table)
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        return sql.SQL("INSERT INTO {} ({}) VALUES %s").format(name, listed)
