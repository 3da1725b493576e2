"""Artifacts, lineage, the archive and reports: through the official CLI and SDK where they take http."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.objects.conftest import BIG, FILES, finish, upload
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process
HLA_COMPASS = str(Path(sys.executable).with_name("hla-compass"))


def cli(devkit: DevkitProcess, *arguments: str) -> Any:
    """What the official CLI prints, as JSON."""
    ran = subprocess.run(  # noqa: PLW1510  its output is in the failure
        [HLA_COMPASS, *arguments], env=devkit.sdk_environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


REPORTS = """
import json, sys
from hla_compass.client import APIClient
run, pdf, snapshot = sys.argv[1:]
runs = APIClient().runs
files = {"pdf": {"sourceId": "devkit", "uploadId": pdf}, "snapshot": {"sourceId": "devkit", "uploadId": snapshot}}
attached = runs.attach_report(run, **files, idempotency_key="first")
again = runs.attach_report(run, **files, idempotency_key="first")
print(json.dumps({
    "attached": attached, "again": again, "shown": runs.report(run, attached["reportId"]), "listed": runs.reports(run),
}))
"""


def sdk(devkit: DevkitProcess, script: str, *arguments: str) -> Any:
    """What a script that uses the official SDK prints, as JSON."""
    ran = subprocess.run(  # noqa: PLW1510  its output is in the failure
        [sys.executable, "-c", script, *arguments],
        env=devkit.sdk_environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def test_every_saved_file_is_an_artifact_the_cli_lists(devkit: DevkitProcess, saved_run: dict[str, Any]) -> None:
    listed = cli(devkit, "runs", "artifacts", saved_run["runId"])
    assert len({output["artifactId"] for output in listed["outputs"]}) == FILES + 1
    seventh = next(o for o in listed["outputs"] if o["artifactName"] == "many/0007.txt")
    assert seventh["artifactChecksum"] == "sha256:" + hashlib.sha256(b"file 7").hexdigest()
    assert (seventh["artifactSizeBytes"], seventh["artifactMimeType"]) == (6, "text/plain")
    assert seventh["metadata"]["s3VersionId"] == seventh["artifactVersionId"]

    path = f"/v1/module-runs/{saved_run['runId']}/artifacts/{seventh['artifactId']}/download"
    exact = {"lineageId": seventh["id"], "versionId": seventh["artifactVersionId"]}
    receipt = devkit.request("GET", path, params=exact).json()
    assert (receipt["sizeBytes"], receipt["checksum"]) == (6, seventh["artifactChecksum"])
    read = requests.get(receipt["url"], timeout=PATIENCE)
    assert read.content == b"file 7"
    assert '"0007.txt"' in read.headers["Content-Disposition"]
    for wrong in ({"versionId": "another"}, {"lineageId": "another"}):
        refused = devkit.request("GET", path, params={**exact, **wrong})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "ARTIFACT_NOT_FOUND")


def test_a_file_saved_again_can_be_read_as_it_was(devkit: DevkitProcess, request: pytest.FixtureRequest) -> None:
    run = finish(devkit, "saver", {"texts": ["first", "second"], "patient": True})
    outputs = {output["artifactName"]: output for output in lineage(devkit, run)["outputs"]}
    assert sorted(outputs) == ["patient.bin", "rewritten.txt"]
    output = outputs["rewritten.txt"]
    path = f"/v1/module-runs/{run['runId']}/artifacts/{output['artifactId']}/download"

    def texts(**ids: str) -> str:
        receipt = devkit.request("GET", path, params=ids).json()
        content = requests.get(receipt["url"], timeout=PATIENCE).content
        assert receipt["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()
        return content.decode()

    versions = output["artifactVersions"]
    kept = ["second", "first"] if request.node.callspec.params["devkit"] == "files" else ["second"]
    assert [texts(versionId=one["versionId"]) for one in versions] == kept
    assert [texts(lineageId=one["lineageId"]) for one in versions] == kept
    assert texts() == "second"
    assert (versions[0]["versionId"], versions[0]["lineageId"]) == (output["artifactVersionId"], output["id"])
    mixed = {"versionId": versions[0]["versionId"], "lineageId": versions[-1]["lineageId"]}
    assert devkit.request("GET", path, params=mixed).status_code == (404 if len(versions) > 1 else 200)


def lineage(devkit: DevkitProcess, run: dict[str, Any]) -> Any:
    return devkit.request("GET", f"/v1/lineage/run/{run['runId']}").json()


def _from(address: str) -> dict[str, Any]:
    return {"sources": [{"name": "cohort", "uri": address, "format": "CSV"}]}


def test_lineage_leads_from_a_file_to_its_run_and_from_a_run_to_its_inputs(devkit: DevkitProcess) -> None:
    uploaded = upload(devkit, "cohort.csv", b"S1,A*02:01\n")
    first = finish(devkit, "reader", {}, dataContext=_from(uploaded["uri"]))
    address = lineage(devkit, first)["outputs"][0]["artifactS3Uri"]
    second = finish(devkit, "reader", {}, dataContext=_from(address))
    source = lineage(devkit, second)["inputs"][0]
    assert (source["origin"], source["producedByRunId"]) == (address, first["runId"])
    found = devkit.request("GET", "/v1/lineage/artifact", params={"uri": address}).json()
    assert (found["producedBy"]["runId"], found["artifact"]["artifactName"]) == (first["runId"], "seen/cohort.csv")
    gone = devkit.request("GET", "/v1/lineage/artifact", params={"uri": address + "x"})
    assert gone.status_code == 404


def test_all_files_come_as_one_archive(devkit: DevkitProcess, saved_run: dict[str, Any]) -> None:
    answer = devkit.request("GET", f"/v1/module-runs/{saved_run['runId']}/artifacts.zip")
    assert answer.headers["Content-Type"] == "application/zip"
    assert "Content-Length" not in answer.headers  # it is made while it is sent
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("big.bin").file_size == BIG
        assert archive.read("many/0019.txt") == b"file 19"
        assert len(archive.namelist()) == FILES + 1
    empty = finish(devkit, "saver", {})
    with zipfile.ZipFile(
        io.BytesIO(devkit.request("GET", f"/v1/module-runs/{empty['runId']}/artifacts.zip").content)
    ) as archive:
        assert archive.namelist() == []


def test_reports_are_attached_once_and_read_back(devkit: DevkitProcess, saved_run: dict[str, Any]) -> None:
    run_id = saved_run["runId"]
    pdf = b"%PDF-1.7 a small report"
    uploads = {
        "pdf": upload(devkit, "report.pdf", pdf)["uploadId"],
        "snapshot": upload(devkit, "snapshot.json", json.dumps({"runId": run_id}).encode())["uploadId"],
    }
    told = sdk(devkit, REPORTS, run_id, uploads["pdf"], uploads["snapshot"])
    report_id = told["attached"]["reportId"]
    assert told["again"] == told["shown"] == told["attached"]
    assert told["listed"]["reports"] == [told["attached"]]
    path = f"/v1/module-runs/{run_id}/reports"
    receipt = devkit.request("GET", f"{path}/{report_id}/download?file=pdf").json()
    assert receipt["checksum"] == "sha256:" + hashlib.sha256(pdf).hexdigest()
    assert requests.get(receipt["url"], timeout=PATIENCE).content == pdf

    def attach(key: str, **changed: str) -> requests.Response:
        body = {name: {"sourceId": "devkit", "uploadId": changed.get(name, uploads[name])} for name in uploads}
        return devkit.request("POST", path, json={**body, "idempotencyKey": key})

    assert attach("first", pdf=uploads["snapshot"]).json()["error"]["code"] == "REPORT_CONFLICT"
    assert attach("second", pdf=uploads["snapshot"]).json()["error"]["code"] == "REPORT_INVALID"
    other = upload(devkit, "s.json", json.dumps({"runId": "another-run"}).encode())["uploadId"]
    assert attach("third", snapshot=other).json()["error"]["code"] == "REPORT_INVALID"
    assert devkit.request("GET", f"{path}/{uploads['pdf']}").json()["error"]["code"] == "REPORT_NOT_FOUND"
    assert devkit.request("GET", path).json()["total"] == 1


@pytest.mark.parametrize("devkit", ["files"], indirect=True)
def test_the_official_runner_works_through_signed_addresses_from_elsewhere(
    devkit: DevkitProcess, tmp_path: Path
) -> None:
    folder = write_module(
        tmp_path / "remote", 'return self.success(results={"n": input_data["n"] + 1}, summary={"n": 1})'
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    assert devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest}).status_code == 201
    run = devkit.run("remote", {"n": 41})
    path, token = f"/v1/module-runs/{run['runId']}", run["token"]
    answer = devkit.request("POST", f"{path}/urls", key=token).json()
    links = answer["links"]
    environment = {
        **devkit.sdk_environment(), "HLA_API_KEY": token, "HLA_COMPASS_RUN_ID": run["runId"],
        "HLA_COMPASS_MODULE": "backend.main:Probe", "HLA_COMPASS_MODULE_ID": "remote",
        **{f"HLA_COMPASS_{part.upper()}": links[part] for part in links},
        "HLA_COMPASS_WORKDIR": str(tmp_path / "work"), "PYTHONPATH": str(folder),
    }  # fmt: skip
    ran = subprocess.run(  # noqa: PLW1510  its output is in the failure
        [sys.executable, "-m", "hla_compass.runtime.runner"],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert devkit.request("POST", f"{path}/complete", key=token, json={"status": "completed"}).status_code == 200
    result = devkit.request("GET", f"{path}/result").json()
    assert (result["data"]["results"], result["summary"]) == ({"n": 42}, {"n": 1})
    shown = devkit.request("GET", path).json()["links"]
    assert sorted(shown) == ["output", "payload", "summary"]
    assert requests.get(shown["output"], timeout=PATIENCE).json()["results"] == {"n": 42}
    assert requests.get(shown["payload"], timeout=PATIENCE).json() == {"n": 41}
    late = requests.put(links["output"], json={}, timeout=PATIENCE)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "RUN_CONFLICT")
    assert requests.get(links["context"], timeout=PATIENCE).status_code == 409
    altered = shown["payload"].replace("/payload?", "/context?")
    assert requests.get(altered, timeout=PATIENCE).json()["error"]["code"] == "SIGNATURE_INVALID"


@pytest.mark.parametrize("devkit", ["files"], indirect=True)
def test_a_revoked_token_is_refused_and_the_run_goes_on(devkit: DevkitProcess) -> None:
    manifest = json.loads((devkit.root.parent / "modules" / "saver" / "manifest.json").read_text())
    devkit.request("POST", "/v1/devkit/modules", json={"manifest": {**manifest, "name": "revocable"}})
    run = devkit.run("revocable")
    path = f"/v1/module-runs/{run['runId']}"
    assert devkit.request("POST", f"{path}/heartbeat", key=run["token"]).status_code == 200
    assert devkit.request("POST", f"{path}/revoke", json={"reason": "lost"}).json()["revoked"] is True
    assert devkit.request("POST", f"{path}/heartbeat", key=run["token"]).status_code == 401
    assert devkit.request("GET", path).json()["status"] == "running"
    assert devkit.request("POST", f"{path}/cancel").json()["status"] == "cancelled"
