"""The module under test: registered from its folder, run for real."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import attrs

from devkit_api.cli.client import module_files
from devkit_api.testing.server import RunningDevkit

_ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})
_POLL_SECONDS = 0.05


class ModuleRefused(AssertionError):
    """The devkit's answer when it does not take the module or the run."""


@attrs.frozen
class RunResult:
    """An ended run: its document, what the module returned, its log lines and its saved files by name."""

    run: dict[str, Any]
    output: dict[str, Any]
    logs: list[str]
    files: dict[str, bytes]

    @property
    def status(self) -> str:
        """completed, failed, cancelled or timed_out."""
        return str(self.run["status"])

    @property
    def results(self) -> Any:
        """`results` of the output."""
        return self.output.get("results")

    @property
    def summary(self) -> Any:
        """`summary` of the output."""
        return self.output.get("summary")


@attrs.frozen
class ModuleUnderTest:
    """A registered module."""

    server: RunningDevkit
    module_id: str
    folder: Path

    def run(self, parameters: dict[str, Any] | None = None, *, within: float = 120, **fields: Any) -> RunResult:
        """Run it and wait for its end, `within` seconds. Input that does not fit raises `ModuleRefused`."""
        body = {"moduleId": self.module_id, "parameters": parameters or {}, "mode": "async", **fields}
        run_id = _json(self.server.request("POST", "/v1/module-runs", json=body))["runId"]
        run = self._ended(run_id, within)
        output = self.server.request("GET", f"/v1/module-runs/{run_id}/result")
        events = _json(self.server.request("GET", f"/v1/module-runs/{run_id}/logs", params={"limit": 10_000}))
        return RunResult(
            run=run,
            output=(output.json()["data"] or {}) if output.status_code == 200 else {},
            logs=[event["message"] for event in events["events"]],
            files=self._files(run_id),
        )

    def _ended(self, run_id: str, within: float) -> dict[str, Any]:
        deadline = time.monotonic() + within
        while True:
            run: dict[str, Any] = _json(self.server.request("GET", f"/v1/module-runs/{run_id}"))
            if run["status"] in _ENDED:
                return run
            if time.monotonic() > deadline:
                raise AssertionError(f"{run_id} is still {run['status']} after {within} s")
            # Asked for again, not followed as a stream: `within` holds however much or little the run says.
            time.sleep(_POLL_SECONDS)

    def _files(self, run_id: str) -> dict[str, bytes]:
        import requests

        listed = _json(self.server.request("GET", f"/v1/module-runs/{run_id}/files"))["files"]
        return {file["name"]: requests.get(file["url"], timeout=60).content for file in listed}


def find_module(test: Path, root: Path) -> Path:
    """The nearest folder with a manifest.json, from the test's own up to the root of the test run."""
    for folder in test.resolve().parents:
        if (folder / "manifest.json").is_file():
            return folder
        if folder == root.resolve():
            break
    raise FileNotFoundError(f"no manifest.json in a folder between {test} and {root}")


def register(server: RunningDevkit, folder: Path) -> ModuleUnderTest:
    """Register what the folder holds now."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in module_files(folder):
            archive.write(path, path.relative_to(folder))
    files = {"source": ("source.zip", packed.getvalue(), "application/zip")}
    module = _json(server.request("POST", "/v1/devkit/modules", files=files))["module"]
    return ModuleUnderTest(server, module["id"], folder)


def _json(answer: Any) -> Any:
    if answer.status_code >= 400:
        raise ModuleRefused(f"{answer.status_code}: {answer.text[:2000]}")
    return answer.json()
