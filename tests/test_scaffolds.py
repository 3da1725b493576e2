"""What authors start from (the SDK's scaffolds, our template) runs untouched, and its files can be read back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from tests.support.client import below
from tests.support.modules import drop_module, save, scaffold
from tests.support.process import REPO, DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

SCAFFOLDS = ("no-ui", "ui", "lambda", "batch", "mcp")
TEMPLATE = REPO / "templates" / "no-ui-template"

SAVER = """
uri = self.storage.save_json("deep/er/table of peptides.json", {"rows": ["SIINFEKL", "Ω"]})
self.storage.save_text("note.txt", "0123456789" * 10)
self.storage.save_text("gone.txt", "soon")
before = sorted(item["key"] for item in self.storage.list_files())
self.storage.delete_file("gone.txt")
try:
    self.storage.load("gone.txt")
    lost = "still there"
except Exception as exc:
    lost = type(exc).__name__
try:
    self.storage.save_text("../out.txt", "x")
    escaped = "yes"
except Exception as exc:
    escaped = type(exc).__name__
self.storage.save_text("note.txt", "0123456789" * 10 + "!")
return self.success(results={
    "uri": uri,
    "before": before,
    "after": {item["key"]: item["size"] for item in self.storage.list_files()},
    "in_folder": [item["key"] for item in self.storage.list_files("deep/")],
    "loaded": self.storage.load_json("deep/er/table of peptides.json"),
    "lost": lost,
    "escaped": escaped,
    "urls": {name: self.storage.create_download_url(name)
             for name in ("deep/er/table of peptides.json", "note.txt")},
})
"""


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    """A server that was already running when the modules were dropped into its directory."""
    root = tmp_path_factory.mktemp("scaffolds")
    made, modules = root / "made", root / "modules"
    made.mkdir()
    modules.mkdir()
    with DevkitProcess(root / "devkit", modules) as devkit:
        environment = devkit.sdk_environment()
        with ThreadPoolExecutor(2) as pool:
            folders = pool.map(lambda template: scaffold(made, f"my-{template}", template, environment), SCAFFOLDS)
            for folder in folders:
                shutil.move(folder, modules)
        shutil.copytree(TEMPLATE, made / "copied", ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        shutil.move(made / "copied", modules)
        drop_module(modules, "saver", SAVER)
        yield devkit


def _manifest(devkit: DevkitProcess, folder: str) -> dict[str, Any]:
    assert devkit.modules is not None
    return json.loads((devkit.modules / folder / "manifest.json").read_text())


def _sample(devkit: DevkitProcess, folder: str) -> dict[str, Any]:
    assert devkit.modules is not None
    return json.loads((devkit.modules / folder / "examples" / "sample_input.json").read_text())


def _picked_up(devkit: DevkitProcess, folder: str) -> str:
    """The module's id, once the watcher has registered the folder as it is now."""
    assert devkit.modules is not None
    files = [path for path in (devkit.modules / folder).rglob("*") if path.is_file()]
    wanted = _manifest(devkit, folder)["name"]

    def registered() -> dict[str, Any] | None:
        answer = devkit.request("GET", f"/v1/modules/{wanted}")
        is_whole = answer.status_code == 200 and answer.json()["source"]["files"] == len(files)
        return answer.json() if is_whole else None

    module = until(registered)
    assert module["source"]["origin"] == "directory"
    return str(module["id"])


def _documents(devkit: DevkitProcess, run_id: str) -> list[dict[str, Any]]:
    """What is stored in the folders of a run that has ended."""
    found = [path for path in below(devkit.state) if path.parent.name == run_id and path.suffix == ".json"]
    return [json.loads(path.read_text()) for path in found]


def _completed(
    devkit: DevkitProcess, module_id: str, parameters: dict[str, Any], mode: str = "async"
) -> dict[str, Any]:
    """The result of a run that must complete."""
    run = devkit.wait(devkit.run(module_id, parameters, mode=mode)["runId"])
    path = f"/v1/module-runs/{run['runId']}"
    assert run["status"] == "completed", (run["error"], devkit.request("GET", path + "/logs").text)
    return devkit.request("GET", path + "/result").json()


@pytest.fixture(scope="module")
def saved(devkit: DevkitProcess) -> dict[str, Any]:
    """Results of a run that used everything `self.storage` has."""
    result = _completed(devkit, _picked_up(devkit, "saver"), {})
    return {"runId": result["runId"], **result["data"]["results"]}


@pytest.mark.parametrize("template", SCAFFOLDS)
def test_scaffold_dropped_into_the_watched_directory_completes(devkit: DevkitProcess, template: str) -> None:
    folder = f"my-{template}"
    module_id = _picked_up(devkit, folder)
    only_workflow = _manifest(devkit, folder)["execution"].get("supports") == ["workflow"]
    mode = "workflow" if only_workflow else "async"
    result = _completed(devkit, module_id, _sample(devkit, folder), mode)
    assert result["data"]["status"] == "success"
    assert result["data"]["results"]
    assert result["data"]["metadata"]["module"] == _manifest(devkit, folder)["name"]
    assert result["module"]["version"] == _manifest(devkit, folder)["version"]


def test_no_ui_scaffold_saves_its_file(devkit: DevkitProcess) -> None:
    sample = _sample(devkit, "my-no-ui")
    sample["options"] = {**sample.get("options", {}), "save_results": True}
    result = _completed(devkit, _picked_up(devkit, "my-no-ui"), sample)
    run_id = result["runId"]
    assert result["data"]["results"]["artifact_url"].endswith(f"/runs/{run_id}/files/results/{run_id}/processed.json")
    assert result["data"]["summary"]["saved_artifact"] is True
    stored = _documents(devkit, run_id)
    assert f"results/{run_id}/processed.json" in {document.get("name") for document in stored}


def test_template_of_this_project_completes_with_its_files(devkit: DevkitProcess) -> None:
    result = _completed(devkit, _picked_up(devkit, "copied"), _sample(devkit, "copied"))
    results = result["data"]["results"]
    assert results["storage"] == "saved"
    assert len(results["files"]) == 3
    assert results["counts"]["own"] == 2  # one of the sample's three is among the published ones
    stored = _documents(devkit, result["runId"])
    sizes = {document["name"]: document["size"] for document in stored if "sha256" in document}
    assert sizes.keys() == {file["name"] for file in results["files"]}
    assert all(sizes.values())


def test_storage_does_what_a_module_expects(saved: dict[str, Any]) -> None:
    name = "deep/er/table of peptides.json"
    assert saved["uri"] == f"s3://hla-compass-devkit/runs/{saved['runId']}/files/{name}"
    assert saved["before"] == [name, "gone.txt", "note.txt"]
    assert saved["after"].keys() == {name, "note.txt"}
    assert saved["after"]["note.txt"] == 101
    assert saved["in_folder"] == [name]
    assert saved["loaded"] == {"rows": ["SIINFEKL", "Ω"]}
    assert (saved["lost"], saved["escaped"]) == ("StorageError", "StorageError")


def test_presigned_url_gives_the_file_without_a_key(saved: dict[str, Any]) -> None:
    answer = requests.get(saved["urls"]["deep/er/table of peptides.json"], timeout=PATIENCE)
    assert answer.status_code == 200
    assert answer.json() == {"rows": ["SIINFEKL", "Ω"]}
    assert answer.headers["Content-Type"] == "application/json"
    assert "table of peptides.json" in answer.headers["Content-Disposition"]
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_presigned_url_gives_a_range(saved: dict[str, Any]) -> None:
    url = saved["urls"]["note.txt"]
    answer = requests.get(url, headers={"Range": "bytes=98-"}, timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (206, "89!")
    assert answer.headers["Content-Range"] == "bytes 98-100/101"
    assert requests.get(url, headers={"Range": "bytes=500-"}, timeout=PATIENCE).status_code == 416
    whole = requests.get(url, timeout=PATIENCE)
    assert hashlib.sha256(whole.content).digest() == hashlib.sha256(b"0123456789" * 10 + b"!").digest()
    again = requests.get(url, headers={"If-None-Match": whole.headers["ETag"]}, timeout=PATIENCE)
    assert again.status_code == 304


def _altered(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    signature = query["Signature"]
    plain = f"{parts.scheme}://{parts.netloc}{parts.path}"

    def address(path: str = plain, **changes: str | None) -> str:
        changed = {**query, **changes}
        return path + "?" + "&".join(f"{k}={quote(v)}" for k, v in changed.items() if v is not None)

    return {
        "signature": address(Signature=signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB")),
        "no signature": address(Signature=None),
        "signature not ASCII": address(Signature="é" * 43),
        "later expiry": address(Expires=str(int(query["Expires"]) + 1)),
        "no expiry": address(Expires=None),
        "expiry that is no number": address(Expires="soon"),
        "other file": address(plain.replace("note.txt", "deep/er/table%20of%20peptides.json")),
        "no query": plain,
    }


def test_altered_url_is_refused(saved: dict[str, Any]) -> None:
    for change, url in _altered(saved["urls"]["note.txt"]).items():
        answer = requests.get(url, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "SIGNATURE_INVALID"), change
        assert "0123456789" not in answer.text


def test_url_to_read_is_not_one_to_write(saved: dict[str, Any]) -> None:
    url = saved["urls"]["note.txt"]
    answer = requests.put(url, data=b"other", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "SIGNATURE_INVALID")
    assert requests.get(url, timeout=PATIENCE).text.endswith("9!")


def test_broker_takes_the_token_of_the_run_alone(devkit: DevkitProcess, saved: dict[str, Any]) -> None:
    path = f"/v1/module-runs/{saved['runId']}/storage"
    answer = devkit.request("POST", path, json={"action": "list"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert devkit.request("POST", path, key=None, json={"action": "list"}).status_code == 401


def test_changed_module_is_picked_up_as_it_is_now(devkit: DevkitProcess, tmp_path: Path) -> None:
    assert devkit.modules is not None
    folder = drop_module(devkit.modules, "edited", 'return self.success(results={"is": "old"})')
    module_id = _picked_up(devkit, "edited")
    old = devkit.request("GET", f"/v1/modules/{module_id}").json()["source"]["digest"]
    main = folder / "backend" / "main.py"
    save(main, main.read_text().replace('"old"', '"new"'), tmp_path)
    until(lambda: devkit.request("GET", f"/v1/modules/{module_id}").json()["source"]["digest"] != old)
    assert _completed(devkit, module_id, {})["data"]["results"] == {"is": "new"}
