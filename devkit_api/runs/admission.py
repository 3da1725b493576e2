"""How a run begins: what is asked for is checked against the module, planned if wanted, stored, and queued."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import attrs

from devkit_api.errors import (
    DataContextInvalid,
    DevkitError,
    Forbidden,
    InputInvalid,
    ModuleUnsupported,
    PlanInvalid,
    RequestInvalid,
)
from devkit_api.ids import new_run_id, utc_now
from devkit_api.locks import Gate
from devkit_api.logs import correlation_id
from devkit_api.modules.contracts import check_parameters
from devkit_api.modules.models import Module
from devkit_api.modules.service import ModuleRegistry
from devkit_api.objects.inputs import Inputs
from devkit_api.runs.models import Run, RunStatus
from devkit_api.runs.plans import PlanBook
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.selection import DataFields, Finding
from devkit_api.runs.supervisor import Supervisor
from devkit_api.schemas import field_error
from devkit_api.security.principals import Principal, Role
from devkit_api.security.tokens import Signer
from devkit_api.tracing import current_traceparent

log = logging.getLogger(__name__)


@attrs.frozen
class Started:
    """A started run. `token` is set only when the run is external and was created by this very call."""

    run: Run
    token: str | None = None


@attrs.define
class Admission:
    """Plans and starts of runs. `longest_runtime`, in seconds, is the most any run gets.

    While the `gate` is closed no run is planned or starts.
    """

    modules: ModuleRegistry
    repository: RunRepository
    plans: PlanBook
    inputs: Inputs
    signer: Signer
    supervisor: Supervisor
    longest_runtime: int
    gate: Gate = attrs.field(factory=Gate, init=False)

    async def prepare(self, module_id: str, request: dict[str, Any], principal: Principal) -> dict[str, Any]:
        """A priced, frozen plan (wire-contract B.2); nothing is started."""
        with self.gate.entered():
            return await self._prepare(module_id, request, principal)

    async def start(self, request: dict[str, Any], principal: Principal) -> Started:
        """Store a new run and queue it. Raises a catalogue error with nothing stored, or `StateError`."""
        with self.gate.entered():
            if "admissionId" in request:
                return await self._start_plan(request, principal)
            return await self._start_new(request, principal)

    async def _prepare(self, module_id: str, request: dict[str, Any], principal: Principal) -> dict[str, Any]:
        run_id = new_run_id()
        module, request = await self._freeze(run_id, module_id, request, principal)
        context = request["dataContext"]
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

    async def _start_new(self, request: dict[str, Any], principal: Principal) -> Started:
        run_id = new_run_id()
        module, frozen = await self._freeze(run_id, request["moduleId"], request, principal)
        try:
            return await self._create(run_id, module, frozen, principal)
        except BaseException:
            if _has_inputs(frozen["dataContext"]):
                await self.inputs.discard(run_id)
            raise

    async def _freeze(
        self, run_id: str, module_id: str, request: dict[str, Any], principal: Principal
    ) -> tuple[Module, dict[str, Any]]:
        """The module, and the request with its data context frozen and the module's data fields filled from it.

        Raises a catalogue error, and then nothing is kept.
        """
        module = self._admissible(module_id, request, principal)
        fields = DataFields.of(module.inputs)
        if not fields.roles:
            module = await self._admit(module_id, request, principal)
            context = await self.inputs.freeze(run_id, request.get("dataContext"), principal, self.repository.find)
            return module, {**request, "dataContext": context}
        # The other way round: a required field may be one that the frozen context fills.
        context = await self._selected(run_id, module, fields, request, principal)
        try:
            parameters = await self._filled(run_id, module, fields, request["parameters"], context)
        except BaseException:
            if _has_inputs(context):
                await self.inputs.discard(run_id)
            raise
        return module, {**request, "parameters": parameters, "dataContext": context}

    async def _selected(
        self, run_id: str, module: Module, fields: DataFields, request: dict[str, Any], principal: Principal
    ) -> dict[str, Any] | None:
        """What the request selects, frozen."""
        given = request.get("dataContext")
        asked = fields.asked(request["parameters"], given)
        try:
            return await self.inputs.freeze(run_id, asked, principal, self.repository.find)
        except DataContextInvalid as exc:
            findings = fields.located(exc.details["errors"]) if asked is not given else None
            if findings is None:
                raise
            raise _input_invalid(module, findings) from None

    async def _filled(
        self, run_id: str, module: Module, fields: DataFields, given: dict[str, Any], context: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The parameters of the run, checked."""
        if context and _has_inputs(context):
            parameters, findings = fields.filled(given, context, self.inputs.manifest_uri(run_id))
        else:
            parameters, findings = given, fields.stray(given)
        findings = findings or fields.explained(await check_parameters(module.inputs, parameters))
        if findings:
            raise _input_invalid(module, findings)
        return parameters

    async def _start_plan(self, request: dict[str, Any], principal: Principal) -> Started:
        prepared = {k: v for k, v in request.items() if k not in {"admissionId", "requestFingerprint"}}
        plan = await self.plans.find(request["admissionId"], request["requestFingerprint"], prepared)
        known = await self.repository.get(plan.run_id)
        if known is not None:
            return Started(await self.repository.find(plan.run_id, principal))
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
            is_awaited = request.get("mode") not in {"async", "workflow"}
            run, created = await self.supervisor.admit(run, is_awaited=is_awaited)
        if created:
            log.info("run accepted", extra={"run": run.run_id, "module_id": run.module_id, "mode": run.mode})
        return Started(run, token)

    async def _admit(self, module_id: str, request: dict[str, Any], principal: Principal) -> Module:
        """The module, when it can run with these parameters. Raises a catalogue error."""
        while True:
            module = self._admissible(module_id, request, principal)
            findings = await check_parameters(module.inputs, request["parameters"])
            if findings:
                raise _input_invalid(module, findings)
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


def _has_inputs(context: dict[str, Any] | None) -> bool:
    """Whether anything was frozen for this data context."""
    return bool(context) and "sources" in (context or {})


def _input_invalid(module: Module, findings: list[Finding]) -> DevkitError:
    return field_error(InputInvalid, findings, module_id=module.module_id)


def _is_plain(mode: str, supported: list[str]) -> bool:
    """`async` is how an interactive module is run without waiting; the SDK's own CLI does so."""
    return mode == "async" and "interactive" in supported
