"""Inputs marked with `x-hla-data-role`: what the run selects reaches them, checked, through the SDK's own commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from tests.catalogs.conftest import command, compass, shown
from tests.catalogs.test_control_plane import Ask, Plane
from tests.objects.conftest import finish, upload
from tests.support.client import below
from tests.support.modules import scaffold, write_module
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

DEMO = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
NONAMERS = "SELECT peptide_id, sequence FROM peptides WHERE length = 9 ORDER BY sequence"
ROWS = b"sample,allele\nS1,A*02:01\n"
UNKNOWN = "00000000-0000-4000-8000-000000000001"

# As an author writes it: the fields are there for the platform to fill.
AUTHOR = """
import csv
import io

from hla_compass import Module, RuntimeContext
from pydantic import BaseModel, ConfigDict, Field


def role(name):
    return {"x-hla-data-role": "selection." + name}


class ModuleInput(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Inputs")

    peptides: str = Field(..., title="Peptides", examples=["s3://b/p.csv"], json_schema_extra=role("uri"))
    view: str | None = Field(None, title="View", examples=["…"], json_schema_extra=role("view_id"))
    chosen: list[int] = Field(default_factory=list, title="Chosen", examples=[[1]], json_schema_extra=role("ids"))
    column: str = Field("sequence", title="Column", examples=["sequence"])


class ModuleOutput(BaseModel):
    model_config = ConfigDict(title="Results")

    values: list[str] = Field(..., title="Values")
    inputs: dict = Field(..., title="Inputs as they came")


class NoUIModule(Module):
    Input = ModuleInput
    Output = ModuleOutput

    def execute(self, input_data: ModuleInput, context: RuntimeContext):
        selection = context.data_selection
        if input_data.peptides != selection.uri:
            raise ValueError("another file than the selected one")
        (source,) = selection.sources
        rows = csv.DictReader(io.StringIO(selection.load_source(source["name"], self.storage).decode()))
        values = [row[input_data.column] for row in rows]
        return self.success(results={"values": values, "inputs": input_data.model_dump()})
"""

_ROLES = ("uri", "view_id", "ids", "id_column", "format", "manifest_uri")


@pytest.fixture(scope="module")
def taker(working_devkit: DevkitProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A module with a field of every role and one of its own; it tells what reached it."""
    fields = {name: {"x-hla-data-role": f"selection.{name}"} for name in _ROLES}
    fields["ids"]["type"] = "array"
    fields["id_column"]["default"] = "peptide_id"  # a form's own proposal
    contract = {"type": "object", "properties": {**fields, "top": {"type": "integer"}}, "additionalProperties": False}
    tell = """
        selection = context.data_selection
        names = [source["name"] for source in selection.sources]
        texts = {name: selection.load_source(name, self.storage).decode() for name in names}
        return self.success(results={"inputs": dict(input_data), "uri": selection.uri, "texts": texts})
    """
    folder = write_module(tmp_path_factory.mktemp("taker") / "taker", tell, inputs=contract)
    assert command(working_devkit, "register", str(folder)).returncode == 0
    return "taker"


@pytest.fixture
def view(working_devkit: DevkitProcess, bearer: str) -> dict[str, Any]:
    """The demo's nonamers, saved as a view."""
    body = {"name": "Nonamers", "sql": NONAMERS, "catalogId": DEMO}
    return dict(Plane(working_devkit, bearer).ok("POST", "/v1/data-views", body))


@pytest.fixture
def two_ids(ask: Ask) -> list[int]:
    """Two of the view's peptides, in its order."""
    found = ask(
        "SELECT peptide_id FROM vocabulary.peptides WHERE sequence IN ('GILGFVFTL', 'NLVPMVATV') AND segment ="
        " (SELECT segment FROM devkit.catalog_versions WHERE catalog_id = %s ORDER BY ready_at DESC LIMIT 1)"
        " ORDER BY sequence",
        DEMO,
    )
    return [identity for (identity,) in found]


def _told(devkit: DevkitProcess, parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What reached the module."""
    run = finish(devkit, "taker", parameters, **fields)
    results = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]
    return {**results, "run": run["runId"]}


def _files(devkit: DevkitProcess) -> set[Path]:
    """Every stored file. The devkit may be removing others meanwhile."""
    return {path for path in below(devkit.state / "objects") if path.is_file()}


def _refused(devkit: DevkitProcess, parameters: dict[str, Any], **fields: Any) -> tuple[str, list[str]]:
    """The code, and the paths of what is refused; nothing is kept of it."""
    files = _files(devkit)
    runs = devkit.request("GET", "/v1/module-runs").json()["runs"]
    body = {"moduleId": "taker", "parameters": parameters, "mode": "async", **fields}
    answer = devkit.request("POST", "/v1/module-runs", json=body)
    assert answer.status_code == 422, answer.text
    assert _files(devkit) <= files
    assert devkit.request("GET", "/v1/module-runs").json()["runs"] == runs
    error = answer.json()["error"]
    return error["code"], [found["path"] for found in error["details"]["errors"]]


def test_a_scaffold_gets_what_the_prepared_run_selects(
    working_devkit: DevkitProcess, view: dict[str, Any], two_ids: list[int], tmp_path: Path
) -> None:
    folder = scaffold(tmp_path, "chosen-peptides", "no-ui", working_devkit.sdk_environment())
    (folder / "backend" / "main.py").write_text(AUTHOR)
    example = {"peptides": "s3://hla-compass-devkit/uploads/x/peptides.csv"}
    (folder / "examples" / "sample_input.json").write_text(json.dumps(example))
    where = DevkitProcess(folder)  # the commands run in the module's folder
    where.endpoint = working_devkit.endpoint
    assert compass(where, "sync-manifest").returncode == 0
    checked = compass(where, "validate", "--strict", "--format", "json")
    assert json.loads(checked.stdout)["valid"], checked.stdout
    assert command(working_devkit, "register", str(folder)).returncode == 0

    (tmp_path / "inputs.json").write_text(json.dumps({"column": "sequence"}))
    context = {"type": "data_view", "viewId": view["id"], "selectedIds": two_ids, "idColumn": "peptide_id"}
    (tmp_path / "context.json").write_text(json.dumps(context))
    asked = ("--inputs", str(tmp_path / "inputs.json"), "--data-context", str(tmp_path / "context.json"))
    plan = shown(compass(working_devkit, "runs", "prepare", "chosen-peptides", *asked, "--mode", "async"))
    # The plan is what is reviewed: it shows the inputs as the module will see them.
    reviewed = plan["preparedRequest"]["parameters"]
    frozen = plan["dataContext"]["materialization"]["uri"]
    assert reviewed == {"peptides": frozen, "view": view["id"], "chosen": two_ids, "column": "sequence"}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    started = shown(compass(working_devkit, "runs", "confirm", str(tmp_path / "plan.json")))
    run = working_devkit.wait(started["runId"])
    assert run["status"] == "completed", run["error"]
    results = working_devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]
    assert results == {"values": ["GILGFVFTL", "NLVPMVATV"], "inputs": reviewed}


def test_a_context_fills_every_field_that_is_left_out(
    working_devkit: DevkitProcess, taker: str, view: dict[str, Any], two_ids: list[int]
) -> None:
    context = {"type": "data_view", "viewId": view["id"], "selectedIds": two_ids, "idColumn": "peptide_id"}
    told = _told(working_devkit, {"top": 3}, dataContext={**context, "format": "JSON"})
    rest = {"view_id": view["id"], "ids": two_ids, "id_column": "peptide_id", "format": "JSON", "top": 3}
    manifest_uri = told["inputs"].pop("manifest_uri")
    assert told["inputs"] == {**rest, "uri": told["uri"]}
    assert manifest_uri.startswith("s3://")
    assert manifest_uri.endswith(f"/runs/{told['run']}/inputs/manifest.json")
    assert [row["peptide_id"] for row in json.loads(told["texts"]["selection"])["data"]] == two_ids


def test_fields_that_name_a_view_select_it(
    working_devkit: DevkitProcess, taker: str, view: dict[str, Any], two_ids: list[int]
) -> None:
    # As a form sends them: the column is the default of the contract, the format in small letters, the rest empty.
    told = _told(working_devkit, {"view_id": view["id"].upper(), "ids": two_ids, "format": "csv", "uri": ""})
    assert (told["inputs"]["view_id"], told["inputs"]["id_column"]) == (view["id"], "peptide_id")
    assert (told["inputs"]["uri"], told["inputs"]["format"]) == (told["uri"], "CSV")
    rows = list(csv.DictReader(io.StringIO(told["texts"]["selection"])))
    assert [int(row["peptide_id"]) for row in rows] == two_ids


def test_a_field_that_names_an_upload_makes_it_readable(working_devkit: DevkitProcess, taker: str) -> None:
    sent = upload(working_devkit, "rows.csv", ROWS)
    told = _told(working_devkit, {"uri": sent["uri"]})
    assert told["texts"] == {"selection": ROWS.decode()}
    # The run reads its own copy, under its own address.
    assert told["inputs"]["uri"] == told["uri"] != sent["uri"]
    assert f"/runs/{told['run']}/inputs/" in told["uri"]
    assert told["inputs"]["format"] == "CSV"  # by the file's name
    # The same file as the only named source, and as a context of nothing but its address.
    named = {"sources": [{"name": "cohort", "uri": sent["uri"], "format": "TSV"}]}
    told = _told(working_devkit, {"uri": sent["uri"]}, dataContext=named)
    assert (told["texts"], told["inputs"]["format"]) == ({"cohort": ROWS.decode()}, "TSV")
    told = _told(working_devkit, {}, dataContext={"materialization": {"uri": sent["uri"], "format": "csv"}})
    assert (told["texts"], told["inputs"]["uri"]) == ({"selection": ROWS.decode()}, told["uri"])


def test_several_sources_are_a_manifest_and_no_single_address(working_devkit: DevkitProcess, taker: str) -> None:
    sent = upload(working_devkit, "rows.csv", ROWS)
    sources = {"sources": [{"name": name, "uri": sent["uri"]} for name in ("tumor", "normal")]}
    told = _told(working_devkit, {}, dataContext=sources)
    assert sorted(told["texts"]) == ["normal", "tumor"]
    assert told["inputs"] == {"manifest_uri": told["uri"], "format": "JSON", "id_column": "peptide_id"}
    assert _refused(working_devkit, {"uri": sent["uri"]}, dataContext=sources) == ("INPUT_INVALID", ["/uri"])


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"view_id": UNKNOWN}, "/view_id"),
        ({"view_id": "nonamers"}, "/view_id"),
        ({"view_id": 7}, "/view_id"),
        ({"view_id": "VIEW", "ids": [10**9]}, "/ids"),
        ({"view_id": "VIEW", "ids": "all"}, "/ids"),
        ({"view_id": "VIEW", "ids": ["GILGFVFTL"], "id_column": "protein"}, "/id_column"),
        ({"view_id": "VIEW", "format": "PARQUET"}, "/format"),
        ({"view_id": "VIEW", "uri": "s3://hla-compass-devkit/uploads/x/y"}, "/uri"),
        ({"view_id": "VIEW", "top": "ten"}, "/top"),
        ({"uri": "s3://hla-compass-devkit/uploads/x/y.csv"}, "/uri"),
        ({"uri": "s3://somebody-else/y.csv"}, "/uri"),
        ({"uri": "https://example.org/y.csv"}, "/uri"),
        ({"uri": "/etc/passwd"}, "/uri"),
        ({"uri": ["s3://a/b"]}, "/uri"),
        ({"manifest_uri": "s3://hla-compass-devkit/runs/r/inputs/manifest.json"}, "/manifest_uri"),
    ],
    ids=str,
)
def test_a_field_that_selects_what_cannot_be_read_is_named(
    working_devkit: DevkitProcess, taker: str, view: dict[str, Any], parameters: dict[str, Any], path: str
) -> None:
    given = {name: view["id"] if value == "VIEW" else value for name, value in parameters.items()}
    assert _refused(working_devkit, given) == ("INPUT_INVALID", [path])


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"view_id": UNKNOWN}, "/view_id"),
        ({"ids": [1]}, "/ids"),
        ({"uri": "s3://hla-compass-devkit/uploads/x/y.csv"}, "/uri"),
        ({"format": "JSON"}, "/format"),
        ({"manifest_uri": "s3://hla-compass-devkit/runs/r/inputs/manifest.json"}, "/manifest_uri"),
    ],
    ids=str,
)
def test_a_field_that_contradicts_the_context_is_named(
    working_devkit: DevkitProcess, taker: str, view: dict[str, Any], parameters: dict[str, Any], path: str
) -> None:
    context = {"type": "data_view", "viewId": view["id"]}
    assert _refused(working_devkit, parameters, dataContext=context) == ("INPUT_INVALID", [path])


def test_a_context_that_cannot_be_frozen_is_named_as_the_context(working_devkit: DevkitProcess, taker: str) -> None:
    context = {"type": "data_view", "viewId": UNKNOWN}
    refused = ("DATA_CONTEXT_INVALID", ["/dataContext/viewId"])
    assert _refused(working_devkit, {}, dataContext=context) == refused
    refused = ("DATA_CONTEXT_INVALID", ["/dataContext/uri"])
    assert _refused(working_devkit, {}, dataContext={"uri": "s3://a/b"}) == refused


def test_a_required_field_says_where_its_value_comes_from(working_devkit: DevkitProcess) -> None:
    contract = {
        "properties": {"input_manifest": {"type": "string", "x-hla-data-role": "selection.manifest_uri"}},
        "required": ["input_manifest"],
    }
    body = {"manifest": _external("named-inputs", contract)}
    assert working_devkit.request("POST", "/v1/devkit/modules", json=body).status_code in {200, 201}
    answer = working_devkit.request("POST", "/v1/modules/named-inputs/quote", json={"parameters": {}})
    (found,) = answer.json()["error"]["details"]["errors"]
    assert (found["path"], found["message"]) == ("/input_manifest", "is missing")
    assert "dataContext" in found["expected"]


def test_a_role_nobody_knows_is_refused_when_the_module_is_registered(working_devkit: DevkitProcess) -> None:
    contract = {"properties": {"rows": {"type": "string", "x-hla-data-role": "selection.url"}}}
    body = {"manifest": _external("typing-error", contract)}
    answer = working_devkit.request("POST", "/v1/devkit/modules", json=body)
    assert answer.status_code == 422
    (found,) = answer.json()["error"]["details"]["errors"]
    assert found["path"] == "/inputs"
    assert "'rows'" in found["message"]
    assert "selection.uri" in found["message"]


def _external(name: str, contract: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "version": "1.0.0", "type": "no-ui", "inputs": contract,
        "execution": {"entrypoint": "backend.main:Probe"},
    }  # fmt: skip
