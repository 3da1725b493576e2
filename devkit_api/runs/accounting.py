"""What a run cost: `metrics` of the run document. Times in seconds, memory and log volume in bytes.

`RunRepository.listen` tells of every stored end with these figures in it; that is where meters attach.
"""

from __future__ import annotations

from datetime import datetime
from time import perf_counter
from typing import Any

import attrs

from devkit_api.execution.protocol import Outcome
from devkit_api.runs.models import Run


@attrs.frozen
class Account:
    """Figures of a run whose process has ended; what storing takes is added when it is being stored."""

    figures: dict[str, Any] = attrs.Factory(dict)
    began: float = attrs.Factory(perf_counter)

    def close(self) -> dict[str, Any]:
        """All figures, up to this moment."""
        if not self.figures:
            return {}
        stored = self.figures.get("collectSeconds", 0.0) + perf_counter() - self.began
        return {**self.figures, "storeSeconds": round(stored, 6)}


def account(run: Run, outcome: Outcome, *, log_bytes: int, log_bytes_dropped: int, began: float) -> Account:
    """Of a run whose outcome became known at `began` (`perf_counter`). What could not be measured is left out."""
    metrics = outcome.metrics
    measured = {
        "queueSeconds": _between(run.created_at, run.started_at),
        "environmentSeconds": metrics.environment_seconds,
        "launchSeconds": metrics.launch_seconds,
        "importSeconds": metrics.import_seconds,
        "executeSeconds": metrics.execute_seconds,
        "collectSeconds": metrics.collect_seconds,
        "cpuSeconds": metrics.cpu_seconds,
        "peakMemoryBytes": metrics.peak_memory_bytes,
        "warm": metrics.warm,
        "exitCode": outcome.exit_code,
        "signal": outcome.signal,
        "logBytes": log_bytes,
        "logBytesDropped": log_bytes_dropped,
    }
    figures = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in measured.items()
        if value is not None
    }
    return Account(figures, began)


def _between(start: str, end: str | None) -> float | None:
    if end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
