"""The rules of runs: who may start what, see it, end it. What a run's own process says is in `callbacks.py`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import attrs

from devkit_api.errors import (
    Forbidden,
    InputInvalid,
    ModuleUnsupported,
    ObjectStoreUnavailable,
    PlanInvalid,
    RequestInvalid,
    RunNotFinished,
    RunNotFound,
    Unavailable,
)
from devkit_api.execution.protocol import RunSpec
from devkit_api.ids import RUN_ID, new_run_id, utc_now
from devkit_api.logs import correlation_id
from devkit_api.modules.contracts import check_parameters
from devkit_api.modules.models import Module
from devkit_api.modules.service import ModuleRegistry
from devkit_api.objects.inputs import Inputs
from devkit_api.public_address import PublicAddress
from devkit_api.runs.callbacks import RunCallbacks
from devkit_api.runs.context import public_context, run_spec
from devkit_api.runs.events import StreamEvent, stream
from devkit_api.runs.failures import failure
from devkit_api.runs.files import RunFiles
from devkit_api.runs.logs import LogPage, RunLogs
from devkit_api.runs.models import IllegalMove, Run, RunStatus
from devkit_api.runs.plans import PlanBook
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.supervisor import Supervisor
from devkit_api.runs.watch import RunWatch
from devkit_api.schemas import field_error
from devkit_api.security.principals import Kind, Principal, Role
from devkit_api.security.tokens import Signer
from devkit_api.state import StateError
from devkit_api.tracing import current_traceparent

log = logging.getLogger(__name__)

CANCEL_SECONDS = 30


@attrs.frozen
class Started:
    """A started run. `token` is set only when the run is external and was created by this very call."""

    run: Run
    token: str | None = None


@attrs.define
class RunService:
    """Everything a caller can do with runs."""

    modules: ModuleRegistry
    repository: RunRepository
    plans: PlanBook
    logs: RunLogs
    files: RunFiles
    watch: RunWatch
    signer: Signer
    address: PublicAddress
    longest_runtime: int
    output_bytes: int
    file_bytes: int
    inputs: Inputs
    supervisor: Supervisor = attrs.field(init=False)
    callbacks: RunCallbacks = attrs.field(init=False)
    _resetting: bool = attrs.field(default=False, init=False)
    _starting: int = attrs.field(default=0, init=False)
    _no_starts: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.callbacks = RunCallbacks(self.repository, self.files, self.get, self.retain)

    async def prepare(self, module_id: str, request: dict[str, Any], principal: Principal) -> dict[str, Any]:
        """A priced, frozen plan (wire-contract B.2); nothing is started."""
        module = await self._admit(module_id, request, principal)
        run_id = new_run_id()
        context = await self.inputs.freeze(run_id, request.get("dataContext"), principal, self.get)
        prepared = {
            "moduleId": module.module_id,
            "version": module.version,
            "parameters": request["parameters"],
            "mode": request.get("mode") or module.default_mode,
            **{k: request[k] for k in ("computeProfile", "maxRuntimeSeconds") if request.get(k)},
            **({"dataContext": context} if context else {}),
        }
        plan = await self.plans.add(run_id, prepared, module.bundle.digest if module.bundle else None)
        return {
            "preparedRequest": prepared,
            "admissionId": plan.admission_id,
            "requestFingerprint": plan.fingerprint,
            "expiresAt": plan.expires_at,
            "quote": {"estimatedAct": 0.0, "note": "The devkit charges nothing."},
            "module": {"id": module.module_id, "name": module.manifest["name"], "version": module.version},
            "dataContext": context,
        }

    async def start(self, request: dict[str, Any], principal: Principal) -> Started:
        """Store a new run and queue it. Raises a catalogue error with nothing stored, or `StateError`."""
        if self._resetting:
            raise Unavailable(what="The devkit, which is being reset,", headers={"Retry-After": "1"})
        self._starting += 1
        try:
            if "admissionId" in request:
                return await self._start_plan(request, principal)
            return await self._start_new(request, principal)
        finally:
            self._starting -= 1
            if not self._starting:
                self._no_starts.set()

    async def _start_new(self, request: dict[str, Any], principal: Principal) -> Started:
        module = await self._admit(request["moduleId"], request, principal)
        run_id = new_run_id()
        context = await self.inputs.freeze(run_id, request.get("dataContext"), principal, self.get)
        try:
            return await self._create(run_id, module, {**request, "dataContext": context}, principal)
        except BaseException:
            if context and "sources" in context:
                await self.inputs.discard(run_id)
            raise

    async def _start_plan(self, request: dict[str, Any], principal: Principal) -> Started:
        prepared = {k: v for k, v in request.items() if k not in {"admissionId", "requestFingerprint"}}
        plan = await self.plans.find(request["admissionId"], request["requestFingerprint"], prepared)
        known = await self.repository.get(plan.run_id)
        if known is not None:
            return Started(await self.get(plan.run_id, principal))
        if plan.admitted:
            raise PlanInvalid(reason="it was started before, and its run is no longer kept")
        if plan.is_expired:
            raise PlanInvalid(reason="it has expired")
        module = await self._admit(plan.module_id, prepared, principal)
        if (module.bundle.digest if module.bundle else None) != plan.source_digest:
            raise PlanInvalid(reason="the module's source has changed since")
        started = await self._create(plan.run_id, module, prepared, principal)
        await self.plans.mark_admitted(plan)
        return started

    async def _create(self, run_id: str, module: Module, request: dict[str, Any], principal: Principal) -> Started:
        serial = secrets.token_hex(8)
        run = Run(
            run_id=run_id,
            module_id=module.module_id,
            module_version=module.version,
            module_name=str(module.manifest["name"]),
            mode=request.get("mode") or module.default_mode,
            status=RunStatus.QUEUED,
            parameters=request["parameters"],
            created_at=utc_now(),
            user_id=principal.user_id,
            organization_id=principal.organization_id,
            correlation_id=correlation_id.get(),
            max_runtime_seconds=self._runtime(module, request.get("maxRuntimeSeconds")),
            token_serial=serial,
            source_digest=module.bundle.digest if module.bundle else None,
            entrypoint=module.entrypoint,
            environment_variables=module.environment_variables,
            memory_mb=module.memory_mb,
            network=module.has_network,
            compute_profile=request.get("computeProfile"),
            data_context=request.get("dataContext"),
            navigation_data=request.get("navigationData"),
            traceparent=current_traceparent.get(),
        )
        if run.is_external:
            run, created = await self.repository.create(run)
            token = self.signer.run_token(run.run_id, serial) if created else None
        else:
            token = None
            with self.supervisor.room():
                run, created = await self.repository.create(run)
                if created:
                    self.supervisor.submit(run)
        if created:
            log.info("run accepted", extra={"run": run.run_id, "module_id": run.module_id, "mode": run.mode})
        return Started(run, token)

    async def _admit(self, module_id: str, request: dict[str, Any], principal: Principal) -> Module:
        """The module, when it can run with these parameters. Raises a catalogue error."""
        while True:
            module = self._admissible(module_id, request, principal)
            findings = await check_parameters(module.inputs, request["parameters"])
            if findings:
                raise field_error(InputInvalid, findings, module_id=module.module_id)
            # A check in a thread takes a while; the module may be another by now.
            if self.modules.startable(module_id, request.get("version")) is module:
                return module

    def _admissible(self, module_id: str, request: dict[str, Any], principal: Principal) -> Module:
        """The module, when this caller may start it in this mode."""
        module = self.modules.startable(module_id, request.get("version"))
        roles = module.required_roles
        if roles and principal.role.value not in roles and principal.role is not Role.PLATFORM_ADMIN:
            raise Forbidden(reason=f"module {module_id!r} may be started by the roles {', '.join(sorted(roles))}")
        if not module.is_external:
            if module.manifest.get("computeType") == "pipeline":
                raise ModuleUnsupported(module_id=module_id, reason="pipeline modules need Nextflow, which is not here")
            if "_mcp_capability" in request["parameters"]:
                raise ModuleUnsupported(
                    module_id=module_id, reason="native MCP tools need a source attested by a build"
                )
        mode = request.get("mode")
        supported = module.manifest["execution"].get("supports")
        if mode and supported and mode not in supported and not _is_plain(mode, supported):
            finding = {"path": "/mode", "message": "is not supported by the module", "expected": ", ".join(supported)}
            raise field_error(RequestInvalid, [finding])
        return module

    def _runtime(self, module: Module, asked: int | None) -> int:
        return min(asked or module.max_runtime_seconds, self.longest_runtime)

    async def get(self, run_id: str, viewer: Principal | None = None) -> Run:
        """A run. Raises `RunNotFound`, also when `viewer` may not see it: that it exists is not theirs to know."""
        run = await self.repository.get(run_id) if RUN_ID.fullmatch(run_id) else None
        if run is None or (viewer is not None and not viewer.may_see(run.user_id, run.organization_id)):
            raise RunNotFound(run_id=run_id[:130])
        return run

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
        await self.retain()
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
        return await self.logs.read(run.run_id, token=token, limit=limit, newest_first=newest_first)

    async def follow(self, run_id: str, viewer: Principal, position: int) -> AsyncGenerator[StreamEvent, None]:
        """The run as a stream from log position `position` on. Raises `RunNotFound` before the first event."""
        run = await self.get(run_id, viewer)
        return stream(run.run_id, position, repository=self.repository, logs=self.logs, watch=self.watch)

    async def revoke(self, run_id: str, viewer: Principal) -> Run:
        """Have the run's token refused from now on; an ended run's token is refused already."""
        run = await self.get(run_id, viewer)
        return await self.repository.change(run_id, token_serial=secrets.token_hex(8)) or run

    def make_spec(self, run: Run) -> tuple[RunSpec, str]:
        """The executor's order for a run, and its token."""
        token = self.signer.run_token(run.run_id, run.token_serial)
        spec = run_spec(run, token, self.address.base_url, self.output_bytes, self.file_bytes)
        return attrs.evolve(spec, environment={**self.address.trust(), **spec.environment}), token

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

    async def retain(self) -> None:
        """Let the oldest finished runs go, with everything they left."""
        for run_id in self.repository.overdue():
            try:
                await self.repository.remove(run_id)
            except StateError:
                return  # logged by the store; the next end of a run tries again
            await self.discard(run_id)

    async def discard(self, run_id: str) -> None:
        """Delete the files of a run whose document is gone."""
        await self.files.remove(run_id)
        try:
            await self.inputs.discard(run_id)
        except ObjectStoreUnavailable:
            log.warning("the files of a removed run are left in the object store", extra={"run": run_id})

    async def clear(self) -> None:
        """Forget every run and plan; what executes is cancelled first, and no run starts meanwhile."""
        self._resetting = True
        try:
            while self._starting:
                self._no_starts.clear()
                await self._no_starts.wait()
            await self.cancel_all()
            await self.supervisor.until_idle()
            ids = self.repository.ids
            await self.repository.clear()
            await self.plans.clear()
            for run_id in ids:
                await self.discard(run_id)
        finally:
            self._resetting = False


def _is_plain(mode: str, supported: list[str]) -> bool:
    """`async` is how an interactive module is run without waiting; the SDK's own CLI does so."""
    return mode == "async" and "interactive" in supported
