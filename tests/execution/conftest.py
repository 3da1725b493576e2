"""An executor on its own, with modules written for the test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.protocol import Execution, Limits, Outcome, RunSpec
from tests.support.modules import write_module
from tests.support.waiting import PATIENCE


@attrs.define
class Result:
    """An outcome and everything the run printed."""

    outcome: Outcome
    text: str
    built: list[str] = attrs.Factory(list)

    @property
    def output(self) -> dict[str, Any]:
        """The module's output file, parsed."""
        assert self.outcome.output is not None, self.text
        return json.loads(self.outcome.output)

    @property
    def results(self) -> Any:
        """`results` of a run that has to have succeeded."""
        assert self.output["status"] == "success", self.text
        return self.output["results"]


@attrs.define
class Listener:
    """Keeps the output; `on_text` is told of all of it, and `on_data` of every piece."""

    data: bytearray = attrs.Factory(bytearray)
    on_text: Callable[[str], None] = lambda _: None
    on_data: Callable[[bytes], None] = lambda _: None
    built: list[str] = attrs.Factory(list)

    def on_output(self, data: bytes) -> None:
        """See `Observer`."""
        self.data += data
        self.on_data(data)
        self.on_text(self.data.decode("utf-8", "replace"))

    def on_build(self, line: bytes) -> None:
        """See `Observer`."""
        self.built.append(line.decode())
        self.on_output(line)


@attrs.define
class Bench:
    """Runs modules in an executor."""

    root: Path
    executor: LocalExecutor
    count: int = 0

    def module(self, name: str, execute: str, **changes: Any) -> str:
        """Write a module; its digest, by which it is run. `files` are more files of it."""
        files: dict[str, str] = changes.pop("files", {})
        folder = write_module(self.root / "modules" / name, execute, **changes)
        for path, text in files.items():
            (folder / path).write_text(text)
        digest = _digest(folder)
        folder.rename(self.root / "bundles" / digest)
        return digest

    def spec(self, digest: str, payload: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
        """The order for a run."""
        self.count += 1
        run_id = f"devkit-run-{self.count}"
        context = {
            "run_id": run_id, "job_id": run_id, "module_id": digest, "module_version": "1.0.0", "user_id": "u",
            "organization_id": "o", "environment": "local", "correlation_id": f"correlation-{self.count}",
            "requested_at": "2026-01-01T00:00:00Z", "offline": True,
        }  # fmt: skip
        limits = changes.pop("limits", Limits(runtime_seconds=PATIENCE, output_bytes=1024 * 1024))
        values = {
            "module_id": "probe", "module_version": "1.0.0", "source_digest": digest, "environment": {},
            "entrypoint": "backend.main:Probe", "mode": "async", "limits": limits, **changes,
        }  # fmt: skip
        return RunSpec(run_id=run_id, payload=payload or {}, context=context, **values)

    async def launch(self, spec: RunSpec, listener: Listener | None = None) -> Execution:
        """Start a run."""
        return await self.executor.launch(spec, listener or Listener())

    async def run(self, digest: str, payload: dict[str, Any] | None = None, **changes: Any) -> Result:
        """Run to the end."""
        listener = Listener()
        execution = await self.launch(self.spec(digest, payload, **changes), listener)
        return Result(await execution.wait(), listener.data.decode("utf-8", "replace"), listener.built)


def _digest(folder: Path) -> str:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    lines = (f"{name}\0{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Executors with settings of the test's choice; all are closed, and none may leave a process."""
    benches: list[Bench] = []

    async def make(**settings: Any) -> Bench:
        values = {
            "kill_grace": 0.5, "keep_workdirs": False, "warm_memory_bytes": 512 * 1024**2, "import_seconds": PATIENCE,
            **settings,
        }  # fmt: skip
        root = tmp_path / f"bench-{len(benches)}"
        bench = Bench(root, LocalExecutor(root / "work", lambda digest: root / "bundles" / digest, **values))
        benches.append(bench)
        (root / "bundles").mkdir(parents=True)
        await bench.executor.open()
        return bench

    yield make
    for bench in benches:
        await bench.executor.close()


@pytest.fixture
async def bench(make_bench: Callable[..., Any]) -> Bench:
    """An executor."""
    result: Bench = await make_bench()
    return result
