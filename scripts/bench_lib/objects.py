"""Objects: bytes through signed addresses, long listings, and the server's memory while a run saves much."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import attrs
import requests

from bench_lib import servers
from bench_lib.plan import EXTERNAL, Plan
from bench_lib.report import Row, ratio_row
from devkit_api import jsonio
from devkit_api.ids import utc_now
from devkit_api.objects.file_index import digest
from devkit_api.objects.protocol import ObjectInfo

OBJECT_BYTES = 64 * 1024**2
KEYS = 10_000
FILES, LARGE_BYTES = 200, 1024**3
S3_BUCKET = "devkit-bench"
SAVER = """
import hashlib
from hla_compass import Module
from hla_compass.storage import RunStorageClient, StorageError


class Bench(Module):
    def execute(self, input_data, context):
        source = self.context.data_selection.load_source("cohort", self.storage)
        for i in range(input_data["files"]):
            self.storage.save_text(f"many/{i:04}.txt", f"file {i}")
        large = bytes(input_data["large"])
        try:
            self.storage.save_file("large.bin", large)
            how = "save_file"
        except StorageError:  # a busy machine did not take it within the five seconds of the SDK
            patient = RunStorageClient(self.api, self.context.run_id, timeout=(600, 600))
            patient.put_object("large.bin", large, "application/octet-stream", {})
            how = "a RunStorageClient with more time"
        return self.success(results={"source": hashlib.sha256(source).hexdigest(),
                                     "large": hashlib.sha256(large).hexdigest(), "how": how})
"""


def transfers(plan: Plan) -> list[Row]:
    """Put and get of 64 MiB through signed addresses, against a bare handler that writes and sends a file."""
    data = os.urandom(OBJECT_BYTES)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        with servers.devkit(root / "devkit", CATALOGS="off") as devkit, servers.bare_files(root) as bare:
            ask = _external_run(devkit)
            puts: dict[str, list[float]] = {"bare": [], "devkit": []}
            gets: dict[str, list[float]] = {"bare": [], "devkit": []}
            for _ in range(plan.rounds):
                puts["bare"].append(_put(bare.endpoint + "/file", data))
                puts["devkit"].append(_put(_grant(ask, "large.bin", data)["url"], data))
                gets["bare"].append(_get(bare.endpoint + "/file"))
                gets["devkit"].append(_get(ask(action="get", key="large.bin")["url"]))
    return [
        _transfer_row("Put of 64 MiB, checked and synced, of a bare handler that only writes", puts),
        _transfer_row("Get of 64 MiB, of a bare file handler", gets),
    ]


def listing(plan: Plan) -> list[Row]:
    """The whole list of 10 000 files, in pages of 1000, as a module asks for it."""
    with TemporaryDirectory() as folder, servers.devkit(Path(folder) / "devkit", CATALOGS="off") as devkit:
        ask = _external_run(devkit)
        for number in range(KEYS):
            ask.store(Path(folder) / "devkit" / "state" / "objects", f"k/{number:05}")
        taken = [_list_all(ask) for _ in range(plan.rounds)]
    middle = statistics.median(taken)
    values = {"seconds": middle}
    return [Row(f"List of {KEYS} files", f"{middle * 1000:.0f} ms", "none", None, "10 pages, one caller", values)]


def _list_all(ask: _Broker) -> float:
    started, token, count = perf_counter(), None, 0
    while count == 0 or token:
        page = ask(action="list", prefix="k/", **({"pageToken": token} if token else {}))
        count, token = count + len(page["objects"]), page["nextToken"]
    if count != KEYS:
        raise RuntimeError(f"{count} files were listed")
    return perf_counter() - started


def memory(plan: Plan) -> list[Row]:
    """Peak growth of the server's memory while a module reads an input and saves 200 files and 1 GiB, by the SDK."""
    rows = []
    for kind in ("files", "s3"):
        with TemporaryDirectory() as folder, _store(kind, Path(folder)) as settings:
            rows.append(_memory_row(kind, Path(folder), settings))
    return rows


def _memory_row(kind: str, root: Path, settings: dict[str, Any]) -> Row:
    module = root / "modules" / "bench-saver"
    (module / "backend").mkdir(parents=True)
    manifest = {**EXTERNAL, "name": "bench-saver", "resources": {"memory": 4096, "maxRuntimeSeconds": 900}}
    (module / "manifest.json").write_text(json.dumps(manifest))
    (module / "backend" / "__init__.py").write_text("")
    (module / "backend" / "main.py").write_text(SAVER)
    (module / "backend" / "requirements.txt").write_text("hla-compass==6.0.2\n")
    source = os.urandom(1024**2)
    with servers.devkit(root / "devkit", modules=root / "modules", pinned=False, CATALOGS="off", **settings) as devkit:
        uploaded = servers.call(devkit, "POST", "/v1/devkit/inputs/cohort.bin", data=source).json()
        _save(devkit, uploaded["uri"], files=1, large=1024)  # what is imported on first use is not growth
        before = devkit.resident_bytes
        devkit.forget_peak()
        run_id, result = _save(devkit, uploaded["uri"], files=FILES, large=LARGE_BYTES)
        growth = devkit.peak_bytes - before
        _check_read_back(devkit, run_id, result, source)
    grown = f"{growth / 1024**2:.0f} MiB"
    large = f"{LARGE_BYTES / 1024**3:.0f} GiB by {result['how']}"
    sizes = f"{FILES} files and {large}; before {before / 1024**2:.0f} MiB"
    what = f"Server memory, peak growth while a run saves, objects in {kind}"
    return Row(
        what, grown, "< 40 MiB", growth < 40 * 1024**2, f"{sizes}; read back and verified", {"growth_bytes": growth}
    )


def _save(devkit: servers.Server, uri: str, **parameters: int) -> tuple[str, dict[str, str]]:
    context = {"sources": [{"name": "cohort", "uri": uri}]}
    body = {"moduleId": "bench-saver", "parameters": parameters, "mode": "async", "dataContext": context}
    run_id = servers.call(devkit, "POST", "/v1/module-runs", json=body).json()["runId"]
    with servers.follow(devkit, run_id):
        pass
    result = servers.call(devkit, "GET", f"/v1/module-runs/{run_id}/result").json()
    if not result["success"]:
        raise RuntimeError(f"the run failed: {result['error']}")
    return run_id, result["data"]["results"]


def _check_read_back(devkit: servers.Server, run_id: str, result: dict[str, str], source: bytes) -> None:
    files = servers.call(devkit, "GET", f"/v1/module-runs/{run_id}/files").json()["files"]
    digest = hashlib.sha256()
    with requests.get(next(f for f in files if f["name"] == "large.bin")["url"], stream=True, timeout=600) as answer:
        for chunk in answer.iter_content(1024**2):
            digest.update(chunk)
    if digest.hexdigest() != result["large"] or result["source"] != hashlib.sha256(source).hexdigest():
        raise RuntimeError("the bytes read back are not those that were saved")
    if len(files) != FILES + 1:
        raise RuntimeError(f"{len(files)} files were saved")


@contextmanager
def _store(kind: str, root: Path) -> Iterator[dict[str, Any]]:
    """Settings for a kind of store; for S3 with a moto server as a process of its own."""
    if kind == "files":
        yield {}
        return
    code = (
        "from moto.server import ThreadedMotoServer; import sys; s = ThreadedMotoServer('127.0.0.1', 0, verbose=False);"
        "s.start(); print('ready at http://127.0.0.1:%d' % s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    with (root / "moto.log").open("wb") as log:
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as moto:
            assert moto.stdout is not None
            endpoint = moto.stdout.readline().split("ready at ", 1)[1].strip()
            yield {
                "S3_ENDPOINT": endpoint, "S3_BUCKET": S3_BUCKET,
                "S3_ACCESS_KEY": "bench", "S3_SECRET_KEY": "bench-secret-0123456789",  # pragma: allowlist secret
            }  # fmt: skip
            moto.terminate()


class _Broker:
    """The broker of a run that stays open."""

    def __init__(self, devkit: servers.Server, run: dict[str, str]) -> None:
        self._run_id = run["runId"]
        self._address = f"{devkit.endpoint}/v1/module-runs/{self._run_id}/storage"
        self._headers = {"X-API-Key": run["token"]}
        self._session = requests.Session()

    def __call__(self, **request: Any) -> dict[str, Any]:
        answer = self._session.post(self._address, json=request, headers=self._headers, timeout=60)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def store(self, root: Path, name: str) -> None:
        """Note an empty file of the run in the store's own form, before the server first looks: no sync, so quick."""
        folder = root / hashlib.blake2b(self._run_id.encode(), digest_size=1).hexdigest() / self._run_id
        folder.mkdir(parents=True, exist_ok=True)
        info = ObjectInfo(
            name=name, size=0, created_at=utc_now(), sha256=hashlib.sha256().hexdigest(),
            content_type="text/plain", version="1-0",
        )  # fmt: skip
        (folder / f"{digest(name)}.json").write_bytes(jsonio.dumps(attrs.asdict(info)))


def _external_run(devkit: servers.Server) -> _Broker:
    servers.call(devkit, "POST", "/v1/devkit/modules", json={"manifest": EXTERNAL})
    body = {"moduleId": EXTERNAL["name"], "parameters": {}, "mode": "async"}
    return _Broker(devkit, servers.call(devkit, "POST", "/v1/module-runs", json=body).json())


def _grant(ask: _Broker, key: str, data: bytes) -> dict[str, Any]:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return ask(action="put", key=key, contentLength=len(data), contentSha256=checksum)


def _put(url: str, data: bytes) -> float:
    started = perf_counter()
    requests.put(url, data=data, timeout=120).raise_for_status()
    return perf_counter() - started


def _get(url: str) -> float:
    started, count = perf_counter(), 0
    with requests.get(url, stream=True, timeout=120) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_content(1024**2):
            count += len(chunk)
    if count != OBJECT_BYTES:
        raise RuntimeError(f"{count} bytes came")
    return perf_counter() - started


def _transfer_row(what: str, taken: dict[str, list[float]]) -> Row:
    ratios = [bare / devkit for bare, devkit in zip(taken["bare"], taken["devkit"], strict=True)]
    speed = {name: OBJECT_BYTES / 1024**2 / statistics.median(seconds) for name, seconds in taken.items()}
    return ratio_row(what, ratios, 0.8, f"{speed['devkit']:.0f} MiB/s, bare {speed['bare']:.0f} MiB/s")
