"""What `run` shows while the environment of a module is being built."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from devkit_api.cli import remote
from devkit_api.runs.files import RunFiles
from devkit_api.runs.logs import RunLogs
from tests.support.waiting import PATIENCE, until

STEP = "Building an environment for the module, which needs peptide-masses==1.0."


class Devkit:
    """One run, whose environment is built until `shown` says that everybody could see it."""

    def __init__(self, shown: Callable[[], bool]) -> None:
        self.shown = shown

    def events(self, _run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "state", {"status": "running", "waitingFor": None}
        yield "log", {"message": STEP, "level": "INFO", "logger": "devkit.environment"}
        until(self.shown)
        yield "log", {"message": "the module's own line"}
        yield "state", {"status": "completed", "waitingFor": None}

    def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"status": "completed"}


@pytest.mark.parametrize(
    ("terminal", "progress", "logs", "step", "line"),
    [
        (True, True, False, True, False),
        (True, True, True, True, True),
        (False, True, False, True, False),
        (False, False, False, False, False),
    ],
    ids=["terminal", "terminal, followed", "no terminal", "json"],
)
def test_steps_of_a_build_are_shown_and_scripts_are_spared(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, progress: bool, logs: bool, step: bool, line: bool
) -> None:
    text = io.StringIO()
    monkeypatch.setattr(remote, "err", Console(file=text, force_terminal=terminal, width=200))
    shown = "Building an environment"
    devkit: Any = Devkit(lambda: not step or shown in text.getvalue())
    remote._watch(devkit, "devkit-run-1", show_progress=progress, show_logs=logs)
    assert (shown in text.getvalue()) is step
    assert ("the module's own line" in text.getvalue()) is line


async def test_a_build_is_told_apart_in_the_log_and_bounded_like_it(tmp_path: Path) -> None:
    logs = RunLogs(RunFiles(tmp_path), max_bytes=400)
    writer = logs.open("devkit-run-1", "token")
    writer.on_build(f"{STEP}\n".encode())
    writer.on_output(b"the module\n")
    for _ in range(10):
        writer.on_build(b"x" * 50)
    async with asyncio.timeout(PATIENCE):
        await logs.close("devkit-run-1")
        page = await logs.read("devkit-run-1", token=None, limit=100, newest_first=False)
    assert (page.events[0]["message"], page.events[0]["logger"]) == (STEP, "devkit.environment")
    assert (page.events[1]["message"], page.events[1].get("logger")) == ("the module", None)
    assert "DEVKIT_MAX_LOG_BYTES" in page.events[-1]["message"]
    assert len(page.events) < 8
