"""Fixtures every test can use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, settings

from tests.support.client import begin_nothing_ahead, client_of
from tests.support.process import REPO, DevkitProcess
from tests.support.waiting import PATIENCE

# How fast a machine is proves nothing: no example is too slow, and none takes too long to make up.
settings.register_profile("suite", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A shell that starts the suite in the background has Ctrl-C ignored, and what is started from there ignores it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One file is one worker's: the longest begin first, so that no worker waits alone at the end.
LONGEST = (
    "test_hostile_zoo.py",
    "test_documented_commands.py",
    "test_ui_template.py",
    "test_kill_nine.py",
    "test_cluster.py",
    "test_contract.py",
    "test_recovery.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files, not the tests in them."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def make_devkit(tmp_path: Path) -> Iterator[Callable[..., DevkitProcess]]:
    """Real devkit processes; whatever a test leaves running is stopped."""
    made: list[DevkitProcess] = []

    def make(name: str = "devkit", modules: Path | None = None, **settings: Any) -> DevkitProcess:
        devkit = DevkitProcess(tmp_path / name, modules, **settings)
        made.append(devkit)
        return devkit

    yield make
    for devkit in made:
        devkit.__exit__()


@pytest.fixture
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes for modules before the first run."""
    begin_nothing_ahead(monkeypatch)


@pytest.fixture
async def make_client(tmp_path: Path, nothing_ahead: None) -> Any:
    """In-process clients of the application, with the API key on every request."""
    async with AsyncExitStack() as clients:

        async def make(**settings: Any) -> TestClient[Any, Any]:
            return await clients.enter_async_context(client_of(tmp_path / "state", **settings))

        yield make


@pytest.fixture(scope="session")
def tls() -> Iterator[dict[str, str]]:
    """What `tls init` made, in a folder that the user of module processes may enter."""
    with tempfile.TemporaryDirectory(prefix="devkit-tls-") as name:
        Path(name).chmod(0o755)
        yield _made_in(Path(name))


def _made_in(folder: Path) -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "devkit_api", "tls", "init", str(folder / "made"), "--json"],
        cwd=folder, env={"PYTHONPATH": str(REPO), "PATH": ""}, capture_output=True, text=True, check=True,
        timeout=PATIENCE,
    )  # fmt: skip
    made: dict[str, str] = json.loads(ran.stdout)
    assert Path(made["key.pem"]).stat().st_mode & 0o777 == 0o600
    return made
