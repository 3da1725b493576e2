"""Executes runs on this machine, each a fork of a warm process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from devkit_api.execution.execution import LocalExecution
from devkit_api.execution.orphans import end_orphans
from devkit_api.execution.protocol import Execution, Observer, RunSpec, StopReason
from devkit_api.execution.workdir import Workdir
from devkit_api.execution.zygote.pool import ZygotePool


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
    ) -> None:
        self._work_root = work_root
        self._kill_grace = kill_grace
        self._keep_workdirs = keep_workdirs
        self._lanes = work_root.with_name("lanes")
        self._running: set[LocalExecution] = set()
        self.pool = ZygotePool(
            self._lanes, bundle_path, memory_bytes=warm_memory_bytes, import_seconds=import_seconds, isolation=isolation
        )

    async def open(self) -> None:
        """Make the work root; what an unclean stop left is ended and removed."""
        await asyncio.to_thread(end_orphans, self._lanes)
        self._work_root.mkdir(parents=True, exist_ok=True)
        await Workdir(self._lanes).remove()
        for leftover in () if self._keep_workdirs else self._work_root.iterdir():
            await Workdir(leftover).remove()
        self.pool.open()

    async def close(self) -> None:
        """Stop what runs, wait for it, end the warm processes."""
        for execution in self._running:
            execution.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*(execution.wait() for execution in self._running))
        await self.pool.close()

    async def launch(self, spec: RunSpec, observer: Observer) -> Execution:
        """Start the run in its own process group, session and work directory."""
        execution = LocalExecution(
            spec, observer, self.pool, kill_grace=self._kill_grace,
            keep_as=self._work_root / spec.run_id if self._keep_workdirs else None,
        )  # fmt: skip
        self._running.add(execution)
        execution.begin(self._running.discard)
        return execution
