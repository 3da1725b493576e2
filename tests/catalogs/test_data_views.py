"""Saved queries, by the SDK's own commands and its client."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_LABEL, DEMO_PROVIDER, catalog_id, version_id
from tests.catalogs.conftest import command, compass, shown
from tests.catalogs.test_control_plane import MORE, Plane
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]
DEMO = catalog_id(DEMO_PROVIDER, DEMO_CATALOG)
VERSION = str(version_id(DEMO, DEMO_LABEL))
NONAMERS = {
    "name": "Nonamers",
    "sql": "SELECT sequence, mass FROM peptides WHERE length = %s ORDER BY 1",
    "params": [9],
}
ONE = {"name": "x", "sql": "SELECT 1 AS a", "catalogId": str(DEMO)}
EXPECTED = (
    "SELECT sequence, mass FROM vocabulary.peptides WHERE length = 9 AND segment ="
    " (SELECT segment FROM devkit.catalog_versions WHERE version_id = %s) ORDER BY 1"
)


@pytest.fixture
def plane(working_devkit: DevkitProcess, bearer: str) -> Plane:
    return Plane(working_devkit, bearer)


def test_the_commands_create_list_show_and_check_a_view(
    working_devkit: DevkitProcess, bearer: str, plane: Plane, tmp_path: Path
) -> None:
    file = tmp_path / "view.json"
    file.write_text(json.dumps({**NONAMERS, "catalogId": str(DEMO)}))

    def run(*arguments: str, token: str | None = None) -> Any:
        return shown(compass(working_devkit, "data", "views", *arguments, token=token))

    made = run("create", str(file), token=bearer)
    assert (made["catalogVersionId"], made["columns"]) == (VERSION, ["sequence", "mass"])
    assert run("show", made["id"]) == made
    assert made["id"] in {view["id"] for view in run("list")["items"]}
    status = run("status", made["id"])
    assert status["status"] == "ready"
    assert status["sources"] == [{"catalogId": str(DEMO), "catalogVersionId": VERSION, "status": "ready"}]


def test_a_view_is_exported_refreshed_changed_and_deleted(plane: Plane, ask: Ask) -> None:
    made = plane.ok("POST", "/v1/data-views", {**NONAMERS, "catalogId": str(DEMO)})
    path = f"/v1/data-views/{made['id']}"
    expected = [[sequence, str(mass)] for sequence, mass in ask(EXPECTED, VERSION)]
    exported = plane.ok("POST", path + "/export", {"format": "CSV"})
    assert exported["rowCount"] == len(expected) > 20
    answer = requests.get(exported["downloadUrl"], timeout=PATIENCE)
    assert list(csv.reader(io.StringIO(answer.text))) == [["sequence", "mass"], *expected]
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="Nonamers.csv"')
    assert requests.get(exported["downloadUrl"][:-1] + "x", timeout=PATIENCE).status_code == 403
    as_json = requests.get(
        plane.ok("POST", path + "/export", {"format": "json"})["downloadUrl"], timeout=PATIENCE
    ).json()
    assert [row["sequence"] for row in as_json["data"]] == [row[0] for row in expected]
    assert plane.ok("POST", path + "/refresh")["sources"][0]["rowCount"] == len(expected)
    changed = plane.ok("PATCH", path, {"params": [10], "name": "Decamers"})
    assert (changed["name"], changed["params"], changed["sql"]) == ("Decamers", [10], NONAMERS["sql"])
    tens = ask("SELECT count(*) FROM vocabulary.peptides WHERE length = 10 AND segment = 1")[0][0]
    assert plane.ok("POST", path + "/refresh")["sources"][0]["rowCount"] == tens
    assert plane.ok("DELETE", path)["status"] == "deleted"
    assert plane.refused("GET", path) == (404, "DATA_VIEW_NOT_FOUND")


def test_a_named_view_pins_each_source_and_the_current_one_follows(plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    first = plane.ingest(catalog, {"sample_peptide_mappings": plane.upload(catalog, MORE)}, "k")
    query = "SELECT count(*) AS n FROM sample_peptide_mappings"
    sources = [
        {"name": "pinned", "sql": query, "catalogId": catalog},
        {"name": "latest", "sql": query, "providerKey": "lab", "catalogKey": fresh_key, "versionPinMode": "current"},
    ]
    made = plane.ok("POST", "/v1/data-views", {"name": "Both", "composition": "named", "sources": sources})
    assert made["sources"][0]["catalogVersionId"] == first["catalogVersionId"]
    assert "catalogVersionId" not in made["sources"][1]
    more = plane.upload(catalog, "sample,peptide,intensity\nT9,GILGFVFTL,1\n", key="u2")
    second = plane.ingest(catalog, {"sample_peptide_mappings": more}, "k2", mode="append")
    status = plane.ok("GET", f"/v1/data-views/{made['id']}/status")
    assert [source["catalogVersionId"] for source in status["sources"]] == [
        first["catalogVersionId"], second["catalogVersionId"],
    ]  # fmt: skip
    files = plane.ok("POST", f"/v1/data-views/{made['id']}/export", {})["files"]
    assert [requests.get(file["downloadUrl"], timeout=PATIENCE).text.split() for file in files] == [
        ["n", "2"],
        ["n", "3"],
    ]
    plane.ok("DELETE", f"/v1/data-catalogs/{catalog}")
    assert plane.ok("GET", f"/v1/data-views/{made['id']}/status")["status"] == "unavailable"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "x"}, "REQUEST_INVALID"),
        ({"name": "x", "sql": "SELECT 1 AS a"}, "REQUEST_INVALID"),
        ({"name": "x", "sql": "DROP TABLE peptides", "catalogId": str(DEMO)}, "SQL_REFUSED"),
        ({"name": "x", "sql": "SELECT nope FROM peptides", "catalogId": str(DEMO)}, "SQL_INVALID"),
        ({"name": "x", "sql": "SELECT 1 AS a", "catalogId": VERSION}, "CATALOG_NOT_FOUND"),
        ({**ONE, "catalogVersionId": str(DEMO)}, "VERSION_NOT_FOUND"),
        ({**ONE, "catalogKey": "other"}, "REQUEST_INVALID"),
        ({"name": "x", "composition": "named", "sources": []}, "REQUEST_INVALID"),
        ({**ONE, "more": 1}, "REQUEST_INVALID"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_views_are_told_and_not_saved(plane: Plane, body: dict[str, Any], code: str) -> None:
    before = plane.ok("GET", "/v1/data-views")["pagination"]["total"]
    assert plane.refused("POST", "/v1/data-views", body)[1] == code
    assert plane.ok("GET", "/v1/data-views")["pagination"]["total"] == before


def test_views_are_read_with_a_key_and_changed_by_their_author_alone(
    working_devkit: DevkitProcess, plane: Plane
) -> None:
    made = plane.ok("POST", "/v1/data-views", {"name": "Mine", "sql": "SELECT 1 AS one", "catalogId": str(DEMO)})
    path = f"/v1/data-views/{made['id']}"
    assert working_devkit.request("GET", path.replace("/v1/", "/v1/api/")).json()["name"] == "Mine"
    assert working_devkit.request("DELETE", path).status_code == 403
    assert plane.refused("GET", "/v1/data-views/not-a-uuid") == (400, "INVALID_QUERY_PARAMETER")
    page = plane.ok("GET", "/v1/data-views?limit=1&page=1")
    assert len(page["items"]) == 1
    assert page["items"][0]["name"] == "Mine"


def test_health_shows_that_connections_are_used_again(working_devkit: DevkitProcess) -> None:
    def owner() -> dict[str, int]:
        body = working_devkit.request("GET", "/v1/system/health").json()
        found: dict[str, int] = body["details"]["databasePools"]["owner"]
        return found

    def reuses() -> bool:
        before = owner()
        for _ in range(5):
            working_devkit.request("GET", f"/v1/api/data/{DEMO_PROVIDER}/{DEMO_CATALOG}/hla-frequencies")
        after = owner()
        assert after["acquired"] - before["acquired"] >= 5
        assert after["open"] <= after["limit"]
        return after["connected"] == before["connected"] and after["reused"] - before["reused"] >= 5

    # Work of the devkit's own beside a request may need one connection more, and then has it.
    until(reuses)


def test_views_of_another_organisation_are_not_there(
    working_devkit: DevkitProcess, plane: Plane, ask: Ask, fresh_key: str
) -> None:
    made = plane.ok("POST", "/v1/data-views", {"name": fresh_key, "sql": "SELECT 1 AS one", "catalogId": str(DEMO)})
    path = f"/v1/data-views/{made['id']}"
    key = command(working_devkit, "keys", "create", fresh_key, "--role", "developer").stdout.strip().splitlines()[-1]
    until(lambda: working_devkit.request("GET", path, key=key).ok)  # a new key is known a little later
    ask("UPDATE devkit.data_views SET organization_id = 'another' WHERE view_id = %s RETURNING 1", made["id"])
    for hidden in (path, f"{path}/status"):
        assert working_devkit.request("GET", hidden, key=key).status_code == 404
    assert fresh_key not in working_devkit.request("GET", "/v1/data-views?limit=1000", key=key).text
    assert fresh_key in working_devkit.request("GET", "/v1/data-views?limit=1000").text, "the owner sees all"
