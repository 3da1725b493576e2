"""What the SDK's runner is told of a run (wire-contract E.4)."""

from __future__ import annotations

from typing import Any

import attrs

from devkit_api.execution.protocol import Limits, RunSpec
from devkit_api.public_address import PublicAddress
from devkit_api.runs.models import Run
from devkit_api.security.tokens import Signer
from devkit_api.tracing import process_traceparent


def run_context(run: Run, token: str, base_url: str) -> dict[str, Any]:
    """The context file. Every field is present and not empty: the SDK refuses null where it expects an id."""
    context: dict[str, Any] = {
        "run_id": run.run_id,
        "job_id": run.run_id,
        "module_id": run.module_id,
        "module_version": run.module_version,
        "organization_id": run.organization_id,
        "organization_name": "Local devkit",
        "user_id": run.user_id,
        "environment": "local",
        "correlation_id": run.correlation_id,
        "requested_at": run.created_at,
        "mode": run.mode,
        "tier": "developer",
        "roles": ["developer"],
        "runtime_profile": run.compute_profile or "local",
        # The devkit charges nothing; the field is there because modules read it.
        "credit": {"reservation_id": f"local-{run.run_id}", "estimated_act": 0.0},
        "module_run_api_key": token,
        "platform_api_base_url": base_url,
    }
    if run.data_context:
        context["data_context"] = run.data_context
    return context


def public_context(run: Run) -> dict[str, Any]:
    """The context as the result shows it: without the token."""
    context = run_context(run, token="", base_url="")
    for private in ("module_run_api_key", "platform_api_base_url"):
        del context[private]
    return context


def run_spec(run: Run, token: str, base_url: str, bounds: Limits) -> RunSpec:
    """The order for the executor, from what the run pinned: its module may have changed since."""
    return RunSpec(
        run_id=run.run_id,
        module_id=run.module_id,
        module_version=run.module_version,
        source_digest=run.source_digest or "",
        entrypoint=run.entrypoint,
        mode=run.mode,
        payload=run.parameters,
        context=run_context(run, token, base_url),
        environment=run.environment_variables,
        limits=attrs.evolve(bounds, runtime_seconds=run.max_runtime_seconds, memory_mb=run.memory_mb),
        network=run.network,
        traceparent=process_traceparent(run.run_id, run.traceparent),
    )


@attrs.frozen
class Orders:
    """What the executor is told of each run. `bounds` are those that are the same for all."""

    signer: Signer
    address: PublicAddress
    bounds: Limits

    def make(self, run: Run) -> tuple[RunSpec, str]:
        """The order for a run, and the run's token."""
        token = self.signer.run_token(run.run_id, run.token_serial)
        # A backend elsewhere comes as other clients do.
        endpoint = self.address.base_url if run.is_external else self.address.runs_url
        spec = run_spec(run, token, endpoint, self.bounds)
        return attrs.evolve(spec, environment={**self.address.trust(), **spec.environment}), token
