"""Traces of requests and runs (OpenTelemetry), when `DEVKIT_OTLP_ENDPOINT` is set.

What the rest of the devkit knows of them is here and imports nothing: the trace of this moment as a W3C `traceparent`,
and the ids of a run's spans. They follow from the run's id, so that the module's process can be told its parent before
the span is written, which is when the run has ended, also when the server was restarted in between.
"""

from __future__ import annotations

import hashlib
from contextvars import ContextVar

# Of the request at hand; None while nothing is traced.
current_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def span_id(run_id: str, part: str) -> int:
    """The id of a run's span: 64 bits, never 0."""
    return int.from_bytes(hashlib.sha256(f"{run_id}/{part}".encode()).digest()[:8]) or 1


def process_traceparent(run_id: str, traceparent: str | None) -> str | None:
    """What the module's process finds as TRACEPARENT: the run's trace, below the span of its execution."""
    if traceparent is None:
        return None
    version, trace, _, flags = traceparent.split("-")
    return f"{version}-{trace}-{span_id(run_id, 'execute'):016x}-{flags}"
