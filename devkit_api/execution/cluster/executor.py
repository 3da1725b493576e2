"""Executes runs on a Dask cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from devkit_api.execution.cluster.codec import EngineSettings
from devkit_api.execution.cluster.conversation import Conversation
from devkit_api.execution.cluster.execution import ClusterExecution, summons_for
from devkit_api.execution.cluster.scheduler import Scheduler
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.execution.protocol import Execution, Observer, RunSpec, StopReason
from devkit_api.public_address import PublicAddress


class DaskExecutor:
    """`Executor` with the workers of a cluster. `most`: runs handed to it at a time, when that is not what it has."""

    def __init__(
        self,
        scheduler: Scheduler,
        tickets: Tickets,
        bundle_path: Callable[[str], Path],
        address: PublicAddress,
        engine: EngineSettings,
        *,
        most: int | None,
    ) -> None:
        self.scheduler = scheduler
        self._tickets = tickets
        self._bundle_path = bundle_path
        self._address = address
        self._engine = engine
        self._most = most
        self._running: set[ClusterExecution] = set()

    @property
    def slots(self) -> int:
        """Runs the cluster can execute at a time; none while there is no scheduler."""
        if not self.scheduler.is_connected:
            return 0
        return self.scheduler.cluster.slots if self._most is None else self._most

    def view(self) -> dict[str, Any]:
        """What `system/health` shows."""
        return {
            "scheduler": self.scheduler.address,
            "connected": self.scheduler.is_connected,
            "workers": self.scheduler.cluster.workers,
            "slots": self.slots,
            "executing": len(self._running),
        }

    async def open(self) -> None:
        """See `Executor.open`."""
        self.scheduler.open()

    async def close(self) -> None:
        """See `Executor.close`."""
        for execution in self._running:
            execution.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*(execution.wait() for execution in self._running))
        await self.scheduler.close()

    async def launch(self, spec: RunSpec, observer: Observer) -> Execution:
        """See `Executor.launch`."""
        # Port 0 is known by now.
        url = self._address.runs_url
        engine = attrs.evolve(self._engine, api_url=url)
        conversation = Conversation(spec, observer, engine, self._bundle_path)
        summons = summons_for(spec.run_id, url, self._address.authority)
        execution = ClusterExecution(conversation, self.scheduler, self._tickets, summons)
        self._running.add(execution)
        execution.begin(self._running.discard)
        return execution
