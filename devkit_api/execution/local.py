"""Executes runs on this machine, each a fork of a warm process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import attrs

from devkit_api.execution.environments.store import EnvironmentFailed, Environments
from devkit_api.execution.execution import LocalExecution
from devkit_api.execution.isolation import IsolationMissing, Surroundings
from devkit_api.execution.orphans import end_orphans
from devkit_api.execution.protocol import Execution, Observer, RunSpec, StopReason
from devkit_api.execution.sources import SourceChanged
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote.handle import Lost
from devkit_api.execution.zygote.lane import Kind
from devkit_api.execution.zygote.pool import ZygotePool

log = logging.getLogger(__name__)


class LocalExecutor:
    """`Executor` with a pool of zygotes."""

    def __init__(
        self,
        work_root: Path,
        bundle_path: Callable[[str], Path],
        *,
        kill_grace: float,
        keep_workdirs: bool,
        warm_memory_bytes: int,
        import_seconds: float,
        isolation: str = "auto",
        environments: Environments | None = None,
        around: Surroundings = Surroundings(),  # noqa: B008  frozen
    ) -> None:
        self._work_root = work_root
        self._kill_grace = kill_grace
        self._keep_workdirs = keep_workdirs
        self._lanes = work_root.with_name("lanes")
        self._environments = environments or Environments(work_root.with_name("environments"), 30, enabled=False)
        self._warming: set[asyncio.Task[None]] = set()
        self._running: set[LocalExecution] = set()
        self.pool = ZygotePool(
            self._lanes, bundle_path, memory_bytes=warm_memory_bytes, import_seconds=import_seconds,
            isolation=isolation, around=around,
        )  # fmt: skip

    async def open(self) -> None:
        """Make the work root; what an unclean stop left is ended and removed."""
        await asyncio.to_thread(end_orphans, self._lanes)
        self._work_root.mkdir(parents=True, exist_ok=True)
        await Workdir(self._lanes).remove()
        for leftover in () if self._keep_workdirs else self._work_root.iterdir():
            await Workdir(leftover).remove()
        await self._environments.open()
        self.pool.open()

    async def close(self) -> None:
        """Stop what runs, wait for it, end the warm processes."""
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        for execution in self._running:
            execution.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*(execution.wait() for execution in self._running))
        await self.pool.close()

    def prewarm(self, kind: Kind) -> None:
        """Import a module in the background, ahead of its first run. What goes wrong is its first run's affair."""
        task = asyncio.create_task(self._prewarm(kind), name=f"prewarm-{kind.module_id}")
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def _prewarm(self, kind: Kind) -> None:
        try:
            if self._environments.enabled:
                source = self.pool.bundle(kind.digest)
                kind = attrs.evolve(kind, python=await self._environments.python(kind.digest, source, lambda _: None))
            await self.pool.prewarm(kind)
        except (EnvironmentFailed, IsolationMissing, SourceChanged, Lost, OSError) as exc:
            log.warning("module could not be warmed", extra={"module_id": kind.module_id, "reason": str(exc)[:500]})

    async def launch(self, spec: RunSpec, observer: Observer) -> Execution:
        """Start the run in its own process group, session and work directory."""
        execution = LocalExecution(
            spec, observer, self.pool, self._environments, kill_grace=self._kill_grace,
            keep_as=self._work_root / spec.run_id if self._keep_workdirs else None,
        )  # fmt: skip
        self._running.add(execution)
        execution.begin(self._running.discard)
        return execution
