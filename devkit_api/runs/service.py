"""What a caller can do with runs that are there: see them, read what they left, end them.

How a run begins is in `admission.py`, what its own process says in `callbacks.py`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import attrs

from devkit_api.errors import RunNotFinished
from devkit_api.ids import utc_now
from devkit_api.runs.admission import Admission
from devkit_api.runs.callbacks import RunCallbacks
from devkit_api.runs.context import Orders, public_context
from devkit_api.runs.events import StreamEvent, stream
from devkit_api.runs.failures import failure
from devkit_api.runs.files import RunFiles
from devkit_api.runs.logs import LogPage, RunLogs
from devkit_api.runs.models import IllegalMove, Run, RunStatus
from devkit_api.runs.plans import PlanBook
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.retention import Retention
from devkit_api.runs.supervisor import Supervisor
from devkit_api.runs.watch import RunWatch
from devkit_api.security.principals import Kind, Principal, Role

CANCEL_SECONDS = 30


@attrs.define
class RunService:
    """The runs there are, and the parts that make, conduct and forget them."""

    repository: RunRepository
    plans: PlanBook
    logs: RunLogs
    files: RunFiles
    watch: RunWatch
    supervisor: Supervisor
    admission: Admission
    callbacks: RunCallbacks
    retention: Retention
    orders: Orders

    async def get(self, run_id: str, viewer: Principal | None = None) -> Run:
        """See `RunRepository.find`."""
        return await self.repository.find(run_id, viewer)

    async def page(
        self,
        viewer: Principal,
        *,
        page: int,
        limit: int,
        newest_first: bool,
        module_id: str | None,
        status: RunStatus | None,
    ) -> tuple[list[Run], int]:
        """One page of the runs `viewer` may see, and how many match."""
        heads = [
            head.run_id
            for head in self.repository.heads(newest_first=newest_first)
            if (module_id is None or head.module_id == module_id)
            and (status is None or head.status is status)
            and viewer.may_see(head.user_id, head.organization_id)
        ]
        shown = heads[(page - 1) * limit : page * limit]
        runs = [await self.repository.get(run_id) for run_id in shown]
        return [run for run in runs if run is not None], len(heads)

    async def cancel(self, run_id: str, viewer: Principal | None = None) -> Run:
        """Cancel; an ended run is answered as it is, so the call can be repeated."""
        run = await self.get(run_id, viewer)
        if run.is_terminal or (run.status is RunStatus.CANCEL_REQUESTED and not run.is_external):
            return run
        if not run.is_external:
            return await self.supervisor.cancel(run)
        try:
            # Nobody here can stop a backend elsewhere; its next callback is refused.
            run = await self.repository.transition(
                run_id, RunStatus.CANCELLED, finished_at=utc_now(), error=failure("RUN_CANCELLED")
            )
        except IllegalMove:
            return await self.get(run_id)
        await self.retention.retain()
        return run

    async def result(self, run_id: str, viewer: Principal) -> dict[str, Any]:
        """The result envelope: all seven marker keys, so that the SDK hands it on whole (wire-contract C.4)."""
        run = await self.get(run_id, viewer)
        if not run.is_terminal:
            raise RunNotFinished(run_id=run_id, status=run.status.value)
        output = await self.output(run)
        return {
            "runId": run.run_id,
            "module": {"id": run.module_id, "name": run.module_name, "version": run.module_version},
            "status": run.status.value,
            "payload": run.parameters,
            "context": public_context(run),
            "summary": run.summary or {},
            "timestamps": {"createdAt": run.created_at, "startedAt": run.started_at, "finishedAt": run.finished_at},
            "success": run.status is RunStatus.COMPLETED,
            "data": output,
            "error": attrs.asdict(run.error) if run.error else None,
            "metrics": run.metrics,
        }

    async def output(self, run: Run) -> dict[str, Any] | None:
        """What the module wrote; for a run that ended without output, an error in the same envelope."""
        if run.output is not None:
            return run.output
        output = await self.files.read_output(run.run_id) if run.has_output else None
        if output is not None:
            return output
        if run.error is None:
            return None
        error = {"type": run.error.code, "message": run.error.message, "details": run.error.details}
        return {"status": "error", "error": error, "metadata": {"module": run.module_id, "version": run.module_version}}

    async def read_logs(
        self, run_id: str, viewer: Principal, *, token: str | None, limit: int, newest_first: bool
    ) -> LogPage:
        """A page of the run's log."""
        run = await self.get(run_id, viewer)
        page = await self.logs.read(run.run_id, token=token, limit=limit, newest_first=newest_first)
        return page if page.events else attrs.evolve(page, note=run.waiting_for)

    async def follow(self, run_id: str, viewer: Principal, position: int) -> AsyncGenerator[StreamEvent, None]:
        """The run as a stream from log position `position` on. Raises `RunNotFound` before the first event."""
        run = await self.get(run_id, viewer)
        return stream(run.run_id, position, repository=self.repository, logs=self.logs, watch=self.watch)

    async def revoke(self, run_id: str, viewer: Principal) -> Run:
        """Have the run's token refused from now on; an ended run's token is refused already."""
        run = await self.get(run_id, viewer)
        return await self.repository.change(run_id, token_serial=secrets.token_hex(8)) or run

    def token_principal(self, run_id: str, serial: str) -> Principal | None:
        """See `RunTokenBook`: a token dies with its run."""
        run = self.repository.live(run_id)
        if run is None or not secrets.compare_digest(run.token_serial, serial):
            return None
        return Principal(Kind.RUN_TOKEN, run.user_id, run.organization_id, Role.DEVELOPER, run_id)

    def unfinished(self, module_id: str, version: str | None = None) -> list[str]:
        """See `ModuleRuns`."""
        runs = self.repository.unfinished(module_id)
        return [run.run_id for run in runs if version is None or run.module_version == version]

    async def cancel_all(self, module_id: str | None = None, version: str | None = None) -> None:
        """Cancel every unfinished run, of one module (or version) or of all, and wait until they have ended."""
        runs = self.repository.unfinished(module_id)
        ids = [run.run_id for run in runs if version is None or run.module_version == version]
        for run_id in ids:
            await self.cancel(run_id)
        await asyncio.gather(*(self.watch.until_finished(run_id, CANCEL_SECONDS) for run_id in ids))

    async def clear(self) -> None:
        """Forget every run and plan; what executes is cancelled first. Belongs inside `admission.gate.closed()`."""
        await self.cancel_all()
        await self.supervisor.until_idle()
        ids = self.repository.ids | await self.plans.run_ids()  # inputs are frozen when a run is planned
        await self.repository.clear()
        await self.plans.clear()
        for run_id in ids:
            await self.retention.discard(run_id)
