"""Ids and times: one place that makes them, one pattern that checks them."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime

# wire-contract C.1: what the SDK accepts as a run id for storage and URL refresh.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){2}")
CORRELATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_last_run_ms = 0
_sequence = 0


def new_run_id() -> str:
    """`devkit-run-` + 12 hex digits of milliseconds + 4 of a counter + 12 random: sorts by creation time."""
    global _last_run_ms, _sequence  # noqa: PLW0603  one process makes ids; the counter keeps one millisecond's in order
    now = max(int(time.time() * 1000), _last_run_ms)
    _sequence = _sequence + 1 if now == _last_run_ms else 0
    if _sequence > 0xFFFF:
        now, _sequence = now + 1, 0
    _last_run_ms = now
    return f"devkit-run-{now:012x}{_sequence:04x}{os.urandom(6).hex()}"


def utc_now() -> str:
    """The time now as ISO 8601 in UTC with milliseconds and `Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def safe_correlation_id(value: str | None) -> str | None:
    """`value` when it is well-formed; anything else could forge log lines or headers."""
    return value if value and CORRELATION_ID.fullmatch(value) else None
