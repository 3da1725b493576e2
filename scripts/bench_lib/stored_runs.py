"""A state directory with many finished runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from unittest import mock

import attrs

from devkit_api.ids import new_run_id, utc_now
from devkit_api.runs.models import Run, RunStatus
from devkit_api.runs.repository import COLLECTION
from devkit_api.state.json_files import JsonFileStore

_AT_ONCE = 5000


def store_runs(state: Path, count: int) -> None:
    """Written by the store itself before the server starts, and put on the disk all together at the end."""
    with mock.patch("os.fsync"):
        asyncio.run(_store(state, count))
    os.sync()


async def _store(state: Path, count: int) -> None:
    store = JsonFileStore(state)
    await store.open()
    template = Run(
        run_id="", module_id="bench-external", module_version="1.0.0", module_name="bench-external", mode="async",
        status=RunStatus.COMPLETED, parameters={"n": 1}, created_at=utc_now(), finished_at=utc_now(), user_id="u",
        organization_id="o", correlation_id="c", max_runtime_seconds=3600, token_serial="0" * 16,
    )  # fmt: skip
    for start in range(0, count, _AT_ONCE):
        runs = [attrs.evolve(template, run_id=new_run_id()) for _ in range(min(_AT_ONCE, count - start))]
        await asyncio.gather(*(store.put(COLLECTION, run.run_id, run.to_document()) for run in runs))
    await store.close()
