"""The demo catalog: the facts are those of the template, and a devkit that ships others writes a new version."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from devkit_api.catalogs import seed
from devkit_api.catalogs.ids import DEMO_LABEL
from devkit_api.database.migrate import connect, migrate
from devkit_api.database.target import Target

REPO = Path(__file__).resolve().parents[2]
DATA = REPO / "devkit_api" / "catalogs" / "data"
# Of both files. When it changes, DEMO_LABEL has to as well: who has the version of that label keeps its rows.
SHIPPED = ("demo-3", "5f2e6df71d255eb3")


def rows(path: str) -> dict[tuple[str, str], dict[str, str]]:
    with (REPO / path).open(newline="") as file:
        return {(row["sequence"], row["allele"]): row for row in csv.DictReader(file)}


def test_the_template_tells_nothing_that_the_demo_catalog_does_not() -> None:
    demo = rows("devkit_api/catalogs/data/demo_epitopes.csv")
    bundled = rows("templates/no-ui-template/backend/data/epitopes.csv")
    assert len(bundled) >= 50
    for key, row in bundled.items():
        assert row == {name: demo[key][name] for name in row}, key


def test_other_demo_rows_have_another_label() -> None:
    digest = hashlib.sha256()
    for name in ("demo_epitopes.csv", "demo_proteins.csv"):
        digest.update((DATA / name).read_bytes())
    assert (DEMO_LABEL, digest.hexdigest()[:16]) == SHIPPED


def _versions(cursor: Any) -> list[tuple[str, int]]:
    """Label and number of peptides of each version, oldest first."""
    cursor.execute(
        "SELECT version_label, (SELECT count(*) FROM vocabulary.peptides p WHERE p.segment = ANY(v.segments))"
        " FROM devkit.catalog_versions v ORDER BY ready_at"
    )
    return list(cursor.fetchall())


def test_a_newer_devkit_adds_its_demo_rows_and_keeps_the_old_ones(
    external: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(
        external["db_host"], int(external["db_port"]), external["db_name"], external["db_user"], external["db_password"]
    )
    migrate(target)
    table = seed._table

    def older(name: str) -> list[dict[str, Any]]:
        """Fewer epitopes, and a protein by another name."""
        found = [{**row, "protein": row["protein"].replace("MAGE-A3", "Melanoma antigen 3")} for row in table(name)]
        return found[:-5] if name == "demo_epitopes.csv" else found

    with monkeypatch.context() as past:
        past.setattr(seed, "DEMO_LABEL", "demo-0")
        past.setattr(seed, "_table", older)
        assert seed.seed(target)
    assert seed.seed(target)
    assert not seed.seed(target), "once is enough"
    with connect(target) as connection, connection.cursor() as cursor:
        assert _versions(cursor) == [("demo-0", 54), (DEMO_LABEL, 59)]
        # A protein has one row, whatever it was called.
        cursor.execute(
            "SELECT r.name, count(*), count(DISTINCT m.segment) FROM vocabulary.protein_peptide_mappings m"
            " JOIN reference.proteins r USING (protein_id) WHERE r.accession = 'P43357' GROUP BY 1"
        )
        ((name, peptides, versions),) = cursor.fetchall()
        assert (name, versions) == ("Melanoma antigen 3", 2)
        assert peptides % 2 == 0
        with pytest.raises(psycopg2.errors.RestrictViolation):
            cursor.execute("UPDATE vocabulary.peptides SET mass = 1 WHERE segment = 1")
