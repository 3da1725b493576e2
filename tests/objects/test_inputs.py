"""Named inputs: uploaded, frozen with the run, and read by a real module through the real SDK."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.objects.conftest import finish, upload
from tests.support.process import REPO, DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process
COHORT = b"sample,allele\nS1,A*02:01\n" * 2000


def _result(devkit: DevkitProcess, run: dict[str, Any]) -> Any:
    return devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()["data"]["results"]


def _prepare(devkit: DevkitProcess, context: dict[str, Any]) -> Any:
    return devkit.request("POST", "/v1/modules/reader/quote", json={"dataContext": context, "mode": "async"})


def test_a_module_reads_its_named_inputs_as_they_were_when_it_was_prepared(devkit: DevkitProcess) -> None:
    uploaded = upload(devkit, "cohort.csv", COHORT)
    context = {
        "sources": [
            {"name": "cohort", "uri": uploaded["uri"], "format": "CSV", "checksum": hashlib.sha256(COHORT).hexdigest()},
            {"name": "alleles", "uri": "local://study/alleles.txt"},
        ]
    }
    plan = _prepare(devkit, context).json()
    # What was prepared stays, whatever happens to the originals.
    assert devkit.request("DELETE", f"/v1/devkit/inputs/{uploaded['uploadId']}").status_code == 200
    study = devkit.root.parent / "study" / "alleles.txt"
    study.write_text("changed to something longer\n")
    body = {**plan["preparedRequest"], **{k: plan[k] for k in ("admissionId", "requestFingerprint")}}
    started = devkit.request("POST", "/v1/module-runs", json=body)
    study.write_text("A*02:01\n")
    run = devkit.wait(started.json()["runId"])
    assert run["status"] == "completed", run["error"]
    results = _result(devkit, run)
    assert results["sizes"] == {"cohort": len(COHORT), "alleles": 8}
    assert (results["composition"], results["names"], results["format"]) == ("named", ["cohort", "alleles"], "CSV")
    assert "absent" in results["absent"]


def test_what_one_run_saved_another_run_reads(devkit: DevkitProcess) -> None:
    uploaded = upload(devkit, "cohort.csv", COHORT)
    context = {"sources": [{"name": "cohort", "uri": uploaded["uri"], "format": "CSV"}]}
    first = finish(devkit, "reader", {}, dataContext=context)
    saved = f"{uploaded['uri'].split('/uploads/')[0]}/runs/{first['runId']}/files/seen/cohort.csv"
    second = finish(devkit, "reader", {}, dataContext={"sources": [{"name": "cohort", "uri": saved, "format": "CSV"}]})
    assert _result(devkit, second)["sizes"] == {"cohort": len(COHORT)}
    devkit.request("DELETE", f"/v1/devkit/inputs/{uploaded['uploadId']}")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"name": "cohort"}, "/dataContext/sources/0/uri"),
        ({"name": "1st", "uri": "s3://x/y"}, "/dataContext/sources/0/name"),
        ({"name": "cohort", "uri": "s3://another-bucket/uploads/x/y"}, "/dataContext/sources/0/uri"),
        ({"name": "cohort", "uri": "https://example.org/cohort.csv"}, "/dataContext/sources/0/uri"),
        ({"name": "cohort", "uri": "local://study/../../etc/passwd"}, "/dataContext/sources/0/uri"),
        ({"name": "cohort", "uri": "local://study/alleles.txt", "sizeBytes": 1}, "/dataContext/sources/0/checksum"),
        ("text", "/dataContext/sources/0"),
    ],
)
def test_a_source_that_cannot_be_frozen_is_named(devkit: DevkitProcess, source: Any, path: str) -> None:
    answer = _prepare(devkit, {"sources": [source]})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["details"]["errors"][0]["path"]) == ("DATA_CONTEXT_INVALID", path)


def test_a_run_without_inputs_is_told_so(devkit: DevkitProcess) -> None:
    run = devkit.wait(devkit.run("reader")["runId"])
    assert run["status"] == "failed"
    assert "cohort" in run["error"]["message"]


def test_uploads_are_listed_with_their_checksums_and_deleted(devkit: DevkitProcess) -> None:
    made = [upload(devkit, f"file{i}.csv", bytes([65 + i]) * 10) for i in range(3)]
    seen, token = [], ""
    while True:
        page = devkit.request(
            "GET", "/v1/devkit/inputs", params={"limit": 2, **({"nextToken": token} if token else {})}
        )
        seen += page.json()["items"]
        token = page.json()["nextToken"]
        if token is None:
            break
    known = {item["uploadId"]: item for item in seen}
    for i, item in enumerate(made):
        assert known[item["uploadId"]]["checksum"] == hashlib.sha256(bytes([65 + i]) * 10).hexdigest()
        assert devkit.request("DELETE", f"/v1/devkit/inputs/{item['uploadId']}").status_code == 200
        assert devkit.request("DELETE", f"/v1/devkit/inputs/{item['uploadId']}").status_code == 404


def test_the_command_line_uploads_a_file_and_runs_a_module_on_it(devkit: DevkitProcess) -> None:
    file = devkit.root / "my cohort.csv"
    file.write_bytes(COHORT)
    command = [sys.executable, "-m", "devkit_api"]
    environment = {**devkit.sdk_environment(), "PYTHONPATH": str(REPO)}

    def call(*arguments: str) -> Any:
        ran = subprocess.run(
            [*command, *arguments, "--json"],
            env=environment, cwd=devkit.root, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    added = call("inputs", "add", str(file))[0]
    assert (added["filename"], added["checksum"]) == ("my cohort.csv", hashlib.sha256(COHORT).hexdigest())
    assert added["uploadId"] in [item["uploadId"] for item in call("inputs", "list")]
    listed = subprocess.run(
        [*command, "inputs", "list"],
        env={**environment, "COLUMNS": "40"}, cwd=devkit.root,
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    lines = listed.stdout.splitlines()
    assert f"{added['uploadId']}  my cohort.csv ({len(COHORT)} bytes)" in lines, "whole in a narrow terminal"
    assert f"  {added['uri']}" in lines
    result = call("run", "named", "--source", f"cohort={file}", "--source", f"again={added['uri']}")
    assert result["data"]["results"] == {"cohort": len(COHORT), "again": len(COHORT)}
