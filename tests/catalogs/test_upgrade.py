"""A database that an earlier devkit made: its schema, with rows in it, under this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.migrate import connect, migrate, shipped
from devkit_api.settings import load_settings
from tests.support.process import DevkitProcess

# A file that has left the house never changes: databases hold its digest, and would refuse to start.
RELEASED = {
    "0001_catalogs.sql": "a2abbf573d8dc0258fb19eb236de6d6d7906230fab991603a183cfa249759851",
    "0002_access.sql": "cac6324771727b965ff2970278dfc7a3146c2d9018ec0c4f78d5a1d5f46b3142",
    "0003_control_plane.sql": "1ca1f48eec2ace55cec9704da98d7e8c6fe01053bc3f5dfcbda1d990f42ebc99",
    "0004_peptide_check.sql": "73750f3b5d0bca26962878a3ca3b6e04944816bf434e5a12f9cea8127fb6b815",
}
CATALOG, VERSION, VIEW = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "123")
ROWS = """
INSERT INTO devkit.catalogs (catalog_id, provider_key, catalog_key, label) VALUES (%(catalog)s, 'lab', 'old', 'Old');
INSERT INTO devkit.catalog_versions (version_id, catalog_id, version_label, mode, segments)
    VALUES (%(version)s, %(catalog)s, '2024-1', 'replace', '{}');
UPDATE devkit.catalog_versions SET segments = ARRAY[segment];
INSERT INTO reference.hla_alleles (allele_name, locus, mhc_class) VALUES ('HLA-A*02:01', 'A', 'I');
INSERT INTO vocabulary.peptides (segment, sequence, mass)
    SELECT segment, s, 1000 FROM devkit.catalog_versions, unnest(ARRAY['GILGFVFTL', 'NLVPMVATV', 'KAFSPEVIPMF']) s;
INSERT INTO vocabulary.peptidoforms (peptide_id, segment, modified_sequence)
    SELECT peptide_id, segment, sequence FROM vocabulary.peptides;
INSERT INTO observation.samples (segment, original_sample_number, sample_name, sample_class, sample_type)
    SELECT segment, 1, 'S1', 'tissue', 'healthy' FROM devkit.catalog_versions;
INSERT INTO observation.sample_hla_typing (sample_id, allele_id, segment)
    SELECT sample_id, allele_id, segment FROM observation.samples, reference.hla_alleles;
INSERT INTO observation.sample_peptide_mappings (sample_id, peptide_id, peptidoform_id, segment, normalized_intensity)
    SELECT sample_id, peptide_id, peptidoform_id, f.segment, 0.5
      FROM vocabulary.peptidoforms f JOIN observation.samples USING (segment);
UPDATE devkit.catalog_versions SET status = 'ready', ready_at = now(), row_counts = '{"peptides": 3, "samples": 1}';
"""
SAVED_VIEW = """
INSERT INTO devkit.data_views (view_id, name, definition, user_id, organization_id)
    VALUES (%(view)s, 'Nonamers', %(definition)s, %(user)s, %(organization)s)
"""
NONAMERS = "SELECT sequence FROM peptides WHERE length = 9 ORDER BY 1"


def test_a_released_migration_never_changes() -> None:
    assert RELEASED.items() <= {migration.name: migration.sha256 for migration in shipped()}.items()


@pytest.mark.process
@pytest.mark.parametrize("migrations", [1, 3])
def test_rows_of_an_earlier_schema_are_answered(make_devkit: Callable[..., DevkitProcess], migrations: int) -> None:
    devkit = make_devkit(catalogs="on")
    asyncio.run(_make_database(devkit, migrations))
    with devkit:
        catalogs = devkit.request("GET", "/v1/data-catalogs").json()["catalogs"]
        old = next(catalog for catalog in catalogs if not catalog["isDemo"])
        assert (old["id"], old["currentVersion"]["versionLabel"]) == (CATALOG, "2024-1")
        page = devkit.request("GET", "/v1/api/data/lab/old/peptides?length=9").json()
        assert sorted(row["sequence"] for row in page["peptides"]) == ["GILGFVFTL", "NLVPMVATV"]
        allele = devkit.request("GET", "/v1/api/data/lab/old/peptides?hla_allele=HLA-A*02:01").json()
        assert len(allele["peptides"]) == 3
        asked = devkit.request("POST", "/v1/api/data/lab/old/query", json={"sql": NONAMERS}).json()
        assert [row["sequence"] for row in asked["data"]] == ["GILGFVFTL", "NLVPMVATV"]
        if migrations >= 3:
            view = devkit.request("GET", f"/v1/data-views/{VIEW}").json()
            assert (view["name"], view["sql"], view["catalogVersionId"]) == ("Nonamers", NONAMERS, VERSION)
        # Nothing is left to do at the next start.
        assert migrate(EmbeddedPostgres(devkit.state / "postgres").target) == 0


async def _make_database(devkit: DevkitProcess, migrations: int) -> None:
    """The state directory's database as a devkit with these migrations alone left it."""
    server = EmbeddedPostgres(devkit.state / "postgres")
    target = await server.start()
    try:
        assert await asyncio.to_thread(migrate, target, shipped()[:migrations]) == migrations
        with connect(target) as connection, connection, connection.cursor() as cursor:
            cursor.execute(ROWS, {"catalog": CATALOG, "version": VERSION})
            if migrations >= 3:
                cursor.execute(SAVED_VIEW, _view())
    finally:
        await server.stop()


def _view() -> dict[str, Any]:
    settings = load_settings({})
    definition = {
        "composition": "single", "sql": NONAMERS, "catalogId": CATALOG, "providerKey": "lab", "catalogKey": "old",
        "versionPinMode": "pinned", "catalogVersionId": VERSION, "columns": [{"name": "sequence", "type": "text"}],
    }  # fmt: skip
    return {
        "view": VIEW, "definition": json.dumps(definition), "user": settings.user_id,
        "organization": settings.org_id,
    }  # fmt: skip
