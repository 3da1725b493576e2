"""Both object stores: files, and S3 against a moto server on a free port."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.protocol import ObjectStore
from devkit_api.objects.s3 import S3ObjectStore
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.s3 import load_s3, make_versioned, moto_server, s3_settings


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket() -> str:
    """A bucket no other test has."""
    return f"devkit-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["files", "s3"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings (without their prefix) for each kind of store."""
    if request.param == "files":
        return {}
    return s3_settings(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket"))


@pytest.fixture(params=["files", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An open store of each kind; "s3-versions" is a bucket that keeps versions."""
    opened: ObjectStore
    if request.param == "files":
        opened = FileObjectStore(tmp_path / "objects")
    else:
        endpoint, bucket = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket")
        if request.param == "s3-versions":
            make_versioned(endpoint, bucket)
        opened = S3ObjectStore(load_s3(endpoint, bucket, tmp_path / "state"), tmp_path / "state")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def keeps_versions(request: pytest.FixtureRequest, store: ObjectStore) -> bool:
    """Whether the store keeps earlier versions; a plain bucket does not."""
    return request.node.callspec.params["store"] != "s3"


FILES, BIG, QUOTA = 60, 16 * 1024**2, 24 * 1024**2

MODULES = {
    "reader": """
        selection = self.context.data_selection
        cohort = selection.load_source("cohort", self.storage)
        manifest = selection.load_manifest(self.storage)
        self.storage.save_file("seen/cohort.csv", cohort, content_type="text/csv")
        try:
            self.storage.client.get_input_source("absent")
            absent = "found"
        except Exception as exc:
            absent = str(exc)
        return self.success(results={
            "sizes": {s["name"]: len(selection.load_source(s["name"], self.storage)) for s in selection.sources},
            "composition": manifest["composition"],
            "names": [s["name"] for s in manifest["sources"]],
            "format": selection.source("cohort")["format"],
            "absent": absent,
        })
    """,
    "named": """
        selection = self.context.data_selection
        return self.success(results={
            s["name"]: len(selection.load_source(s["name"], self.storage)) for s in selection.sources
        })
    """,
    "saver": """
        from hla_compass.storage import RunStorageClient

        patient = RunStorageClient(self.api, self.context.run_id, timeout=(600, 600))
        for i in range(input_data.get("files", 0)):
            self.storage.save_text(f"many/{i:04}.txt", f"file {i}")
        big = input_data.get("big", 0)
        if big:  # else the SDK gives up when it has not sent all of it within five seconds
            quick, self.storage.client = self.storage.client, patient
            self.storage.save_file("big.bin", bytes(big))
            self.storage.client = quick
        for text in input_data.get("texts", []):
            self.storage.save_text("rewritten.txt", text)
        if input_data.get("patient"):
            patient.put_object("patient.bin", b"slowly", "application/octet-stream", {})
        listed = [item["key"] for item in self.storage.list_files("many/")]
        return self.success(results={"listed": len(listed), "sorted": listed == sorted(listed)})
    """,
}


@pytest.fixture(scope="session", params=["files", "s3"])
def devkit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    """One server per kind of store, with small quotas and the modules above; tests share it."""
    root = tmp_path_factory.mktemp(f"devkit-{request.param}")
    for name, body in MODULES.items():
        write_module(root / "modules" / name, dedent(body))
    (root / "study").mkdir()
    (root / "study" / "alleles.txt").write_text("A*02:01\n")
    settings: dict[str, Any] = {
        "data_roots": f"study={root / 'study'}", "max_run_bytes": QUOTA,
    }  # fmt: skip
    if request.param == "s3":
        settings |= s3_settings(request.getfixturevalue("s3_endpoint"), f"devkit-{uuid.uuid4().hex[:12]}")
    with DevkitProcess(root / "server", root / "modules", **settings) as server:
        yield server


@pytest.fixture(scope="session")
def saved_run(devkit: DevkitProcess) -> dict[str, Any]:
    """A run that saved small files and a large one."""
    return finish(devkit, "saver", {"files": FILES, "big": BIG})


def upload(devkit: DevkitProcess, name: str, content: bytes) -> dict[str, Any]:
    """A local file as an input."""
    answer = devkit.request("POST", f"/v1/devkit/inputs/{name}", data=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def finish(devkit: DevkitProcess, module: str, parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The run, completed; its log is in the failure if it is not."""
    run = devkit.wait(devkit.run(module, parameters, **fields)["runId"])
    log = devkit.request("GET", f"/v1/module-runs/{run['runId']}/logs").text
    assert run["status"] == "completed", f"{run['error']} {log}"
    return run
