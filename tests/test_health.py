"""Health checks: together, within a deadline, tried again for a moment, shared by callers."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from devkit_api.system import health
from devkit_api.system.health import Health
from tests.support.process import REPO
from tests.support.waiting import PATIENCE


async def test_checks_run_together_are_shared_and_a_transient_error_is_no_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_DEADLINE", "_SHARED_FOR"):
        monkeypatch.setattr(health, name, PATIENCE)
    asked: list[str] = []
    both = asyncio.Barrier(2)

    async def transient() -> None:
        asked.append("transient")
        if len(asked) == 1:
            raise ConnectionError("for a moment")
        await both.wait()

    async def other() -> None:
        asked.append("other")
        await both.wait()

    service = Health(checks={"transient": transient, "other": other}, started=True)
    answers = await asyncio.gather(*(service.missing() for _ in range(20)))
    assert answers == [{}] * 20
    assert sorted(asked) == ["other", "transient", "transient"], "one round for all callers"
    assert await service.services() == {"transient": "ok", "other": "ok"}
    assert len(asked) == 3, "the next caller gets what is known"


async def test_what_is_down_or_silent_is_told_without_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_DEADLINE", PATIENCE)

    async def down() -> None:
        # It is asked first, and has all the time it needs; for the next one there is little.
        monkeypatch.setattr(health, "_DEADLINE", 0.01)
        raise ConnectionError("10.0.0.7 refused")

    async def silent() -> None:
        await asyncio.Event().wait()

    service = Health(checks={"down": down, "silent": silent}, started=True)
    assert await service.missing() == {"down": "unavailable", "silent": "no answer in time"}


def test_a_container_that_asks_for_its_health_does_not_read_the_whole_devkit() -> None:
    """It asks every ten seconds: what else the command line can do is imported when it is asked for."""
    program = (
        "import sys\nfrom devkit_api.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    assert end.code == 1, end.code\n"
        "found = {'aiohttp', 'psycopg2', 'cryptography', 'rich', 'devkit_api.app'} & sys.modules.keys()\n"
        "assert not found, found\n"
    )
    command = [sys.executable, "-c", program, "health", "--url", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "no devkit answers" in done.stderr
