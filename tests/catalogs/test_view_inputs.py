"""Data views as inputs of runs: their rows as they were when the run was prepared, read through the real SDK."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from typing import Any

import pytest

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from tests.catalogs.test_control_plane import MORE, Ask, Plane
from tests.objects.conftest import finish
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

DEMO = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
NONAMERS = "SELECT peptide_id, sequence FROM peptides WHERE length = 9 ORDER BY sequence"


@pytest.fixture
def plane(working_devkit: DevkitProcess, bearer: str) -> Plane:
    return Plane(working_devkit, bearer)


@pytest.fixture
def view(plane: Plane) -> dict[str, Any]:
    """The demo's nonamers."""
    body = {"name": "Nonamers", "sql": NONAMERS, "catalogId": DEMO}
    return dict(plane.ok("POST", "/v1/data-views", body))


def _seen(devkit: DevkitProcess, context: dict[str, Any], source: str = "selection", **inputs: Any) -> dict[str, Any]:
    """What the module saw of its data context."""
    run = finish(devkit, "selector", {"source": source, **inputs}, dataContext=context)
    answer = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
    return dict(answer["data"]["results"])


def _refused(devkit: DevkitProcess, context: dict[str, Any]) -> str:
    """The member of the context that is refused."""
    answer = devkit.request("POST", "/v1/modules/selector/quote", json={"dataContext": context, "mode": "async"})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "DATA_CONTEXT_INVALID"
    return str(error["details"]["errors"][0]["path"])


def test_a_view_is_frozen_when_the_run_is_prepared(
    working_devkit: DevkitProcess, plane: Plane, view: dict[str, Any], ask: Ask
) -> None:
    context = {"type": "data_view", "viewId": view["id"]}
    body = {"dataContext": context, "mode": "async", "parameters": {"source": "selection"}}
    plan = working_devkit.request("POST", "/v1/modules/selector/quote", json=body).json()
    # Nothing that happens to the view from here on changes what was prepared.
    plane.ok("DELETE", f"/v1/data-views/{view['id']}")
    start = {**plan["preparedRequest"], **{k: plan[k] for k in ("admissionId", "requestFingerprint")}}
    run = working_devkit.wait(working_devkit.request("POST", "/v1/module-runs", json=start).json()["runId"])
    assert run["status"] == "completed", run["error"]
    seen = working_devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]

    (version, segment) = ask(
        "SELECT version_id::text, segment FROM devkit.catalog_versions WHERE catalog_id = %s"
        " ORDER BY ready_at DESC LIMIT 1",
        DEMO,
    )[0]
    expected = ask(
        "SELECT peptide_id::text, sequence FROM vocabulary.peptides WHERE length = 9 AND segment = %s"
        ' ORDER BY sequence COLLATE "C"',
        segment,
    )
    rows = list(csv.reader(io.StringIO(seen["text"])))
    assert rows == [["peptide_id", "sequence"], *map(list, expected)]
    digest = hashlib.sha256(seen["text"].encode()).hexdigest()
    assert (seen["format"], seen["row_count"], seen["columns"]) == ("CSV", len(expected), ["peptide_id", "sequence"])
    assert (seen["checksum"], seen["view_id"], seen["ids"]) == (digest, view["id"], [])
    assert seen["uri"] == seen["source"]["uri"] == plan["dataContext"]["materialization"]["uri"]
    told = {k: seen["source"][k] for k in ("catalogId", "catalogVersionId", "checksum", "rowCount", "sizeBytes")}
    assert told == {
        "catalogId": DEMO, "catalogVersionId": version, "checksum": digest, "rowCount": len(expected),
        "sizeBytes": len(seen["text"].encode()),
    }  # fmt: skip
    (shown,) = working_devkit.request("GET", f"/v1/lineage/run/{run['runId']}").json()["inputs"]
    assert (shown["origin"], shown["checksum"]) == (f"data-view:{view['id']}", digest)


def test_chosen_rows_alone_are_frozen_in_the_form_asked_for(
    working_devkit: DevkitProcess, view: dict[str, Any], ask: Ask
) -> None:
    (first, _), (second, _) = chosen = ask(
        "SELECT peptide_id, sequence FROM vocabulary.peptides WHERE sequence IN ('GILGFVFTL', 'NLVPMVATV')"
        " AND segment = (SELECT segment FROM devkit.catalog_versions WHERE catalog_id = %s"
        "                 ORDER BY ready_at DESC LIMIT 1) ORDER BY sequence",
        DEMO,
    )
    # One id as a browser sends it, one as Python does; the envelope of the SDK's documents.
    selection = {"view_id": view["id"], "selected_ids": [str(second), first], "id_column": "peptide_id"}
    seen = _seen(working_devkit, {"type": "data_view", "selection": selection, "format": "json", "bindingId": "b1"})
    rows = json.loads(seen["text"])["data"]
    assert [(row["peptide_id"], row["sequence"]) for row in rows] == chosen
    assert (seen["format"], seen["row_count"], seen["id_column"]) == ("JSON", 2, "peptide_id")
    assert seen["ids"] == [str(second), first]


def test_a_named_view_is_a_manifest_of_sources(working_devkit: DevkitProcess, plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    plane.ingest(catalog, {"sample_peptide_mappings": plane.upload(catalog, MORE)}, "k")
    count = "SELECT count(*) AS n FROM sample_peptide_mappings"
    sources = [
        {"name": "mine", "sql": count, "catalogId": catalog},
        {"name": "demo", "sql": NONAMERS, "catalogId": DEMO},
    ]
    made = plane.ok("POST", "/v1/data-views", {"name": "Both", "composition": "named", "sources": sources})
    context = {"type": "data_view", "viewId": made["id"]}
    seen = _seen(working_devkit, context, "mine", manifest=True)
    assert seen["text"].split() == ["n", "2"]
    assert (seen["format"], seen["names"]) == ("JSON", ["mine", "demo"])
    assert seen["manifest"]["composition"] == "named"
    assert seen["manifest"]["sources"][0]["checksum"] == seen["source"]["checksum"]
    assert _refused(working_devkit, {**context, "selectedIds": [1], "idColumn": "n"}) == "/dataContext/selectedIds"
    plane.ok("DELETE", f"/v1/data-catalogs/{catalog}")
    assert _refused(working_devkit, context) == "/dataContext/viewId"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"viewId": str(uuid.UUID(int=1))}, "viewId"),
        ({"viewId": "nonamers"}, "viewId"),
        ({"viewId": None}, "viewId"),
        ({"viewId": 7}, "viewId"),
        ({"format": "PARQUET"}, "format"),
        ({"selectedIds": [1]}, "idColumn"),
        ({"selectedIds": [1], "idColumn": "sample_id"}, "idColumn"),
        ({"selectedIds": [1], "idColumn": ["sample_id"]}, "idColumn"),
        ({"selectedIds": [10**9], "idColumn": "peptide_id"}, "selectedIds"),
        ({"selectedIds": [{}], "idColumn": "peptide_id"}, "selectedIds"),
    ],
    ids=str,
)
def test_what_cannot_be_frozen_is_named_and_nothing_is_kept(
    working_devkit: DevkitProcess, view: dict[str, Any], changes: dict[str, Any], path: str
) -> None:
    def namespaces() -> set[str]:
        return {found.name for found in (working_devkit.state / "objects").iterdir()}

    before = namespaces()
    context = {"type": "data_view", "viewId": view["id"], **changes}
    assert _refused(working_devkit, context) == f"/dataContext/{path}"
    assert namespaces() == before
