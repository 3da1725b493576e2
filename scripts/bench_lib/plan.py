"""What every measurement shares: how long to measure, and a module without source."""

from __future__ import annotations

from pathlib import Path

import attrs

EXTERNAL = {
    "schemaVersion": "1.0",
    "name": "bench-external",
    "version": "1.0.0",
    "type": "no-ui",
    "computeType": "fargate",
    "description": "A module of the benchmark",
    "execution": {"entrypoint": "backend.main:Bench", "supports": ["interactive", "async", "workflow"]},
}


@attrs.frozen
class Plan:
    """How long and how often to measure."""

    rounds: int
    seconds: float
    stored: int
    peptides: int | None = None
    data: Path | None = None
