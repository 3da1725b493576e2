"""Orders and outcomes as JSON, not pickles of ours. An outcome is checked like anything that comes from elsewhere."""

from __future__ import annotations

from typing import Any

import attrs

from devkit_api.execution.cluster.frames import Broken
from devkit_api.execution.protocol import Limits, Metrics, Outcome, RunSpec, StopReason

_LONGEST_TEXT = 20_000
_LARGEST = 2**62


@attrs.frozen
class EngineSettings:
    """How a worker executes: what the settings of the devkit say of it. `api_url`: where its runs reach the devkit."""

    api_url: str
    kill_grace: float
    warm_memory_bytes: int
    import_seconds: float
    isolation: str
    environments: bool
    environment_days: int
    cache_bytes: int
    max_source_bytes: int


def encode_spec(spec: RunSpec) -> dict[str, Any]:
    """A spec as JSON."""
    return attrs.asdict(spec)


def decode_spec(value: dict[str, Any]) -> RunSpec:
    """A spec, as `encode_spec` made it."""
    return RunSpec(**{**value, "limits": Limits(**value["limits"])})


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON; of its output, the size alone."""
    value = attrs.asdict(outcome, filter=attrs.filters.exclude("output"))
    return {**value, "output_bytes": None if outcome.output is None else len(outcome.output)}


def decode_outcome(value: dict[str, Any]) -> tuple[Outcome, int | None]:
    """An outcome without its output, and the size of that. Raises `Broken` for what `encode_outcome` does not make."""
    figures = _dict(value, "metrics")
    metrics = Metrics(
        environment_seconds=_number(figures, "environment_seconds"),
        launch_seconds=_number(figures, "launch_seconds"),
        import_seconds=_number(figures, "import_seconds"),
        collect_seconds=_number(figures, "collect_seconds"),
        warm=_flag(figures, "warm"),
        execute_seconds=_number(figures, "execute_seconds"),
        cpu_seconds=_number(figures, "cpu_seconds"),
        peak_memory_bytes=_whole(figures, "peak_memory_bytes"),
    )
    outcome = Outcome(
        exit_code=_whole(value, "exit_code"),
        signal=_whole(value, "signal"),
        output_too_large=bool(_flag(value, "output_too_large")),
        stopped=_reason(value),
        problem=_text(value, "problem"),
        no_environment=bool(_flag(value, "no_environment")),
        killed_for_memory=bool(_flag(value, "killed_for_memory")),
        excess=_text(value, "excess"),
        metrics=metrics,
    )
    return outcome, _whole(value, "output_bytes")


def _dict(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise Broken(f"{name} of its outcome is no object")
    return found


def _flag(value: dict[str, Any], name: str) -> bool | None:
    found = value.get(name)
    if found is not None and not isinstance(found, bool):
        raise Broken(f"{name} of its outcome is no flag")
    return found


def _number(value: dict[str, Any], name: str) -> float | None:
    found = value.get(name)
    if found is None:
        return None
    if type(found) not in (int, float) or not 0 <= found < _LARGEST:
        raise Broken(f"{name} of its outcome is no such number")
    return float(found)


def _whole(value: dict[str, Any], name: str) -> int | None:
    found = value.get(name)
    if found is not None and (type(found) is not int or not 0 <= found < _LARGEST):
        raise Broken(f"{name} of its outcome is no such number")
    return found


def _text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise Broken(f"{name} of its outcome is no text")
    return None if found is None else found[:_LONGEST_TEXT]


def _reason(value: dict[str, Any]) -> StopReason | None:
    found = value.get("stopped")
    try:
        return None if found is None else StopReason(found)
    except ValueError:
        raise Broken("its outcome names no reason we know") from None
