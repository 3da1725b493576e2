"""The plugin: `devkit`, `devkit_server`, `devkit_module` and `devkit_settings`.

pytest loads it wherever the devkit is installed, so it imports nothing but pytest: the devkit itself is imported by the
first test that asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from devkit_api.testing.module import ModuleUnderTest
    from devkit_api.testing.server import RunningDevkit


def pytest_configure(config: pytest.Config) -> None:
    """The in-process client needs pytest-asyncio (pytest-aiohttp brings it); without it the fixture says so."""
    if config.pluginmanager.hasplugin("asyncio"):
        from devkit_api.testing import in_process as client
    else:
        from devkit_api.testing import no_client as client  # type: ignore[no-redef]
    config.pluginmanager.register(client, "devkit_api.testing.client")


@pytest.fixture(scope="session")
def devkit_settings() -> dict[str, Any]:
    """Settings of the test devkits, by name without `DEVKIT_`. Override it in your conftest.py."""
    return {}


@pytest.fixture(scope="session")
def devkit_server(devkit_settings: dict[str, Any]) -> Iterator[RunningDevkit]:
    """A devkit as a process on a free port, for the whole session."""
    from devkit_api.testing.server import RunningDevkit

    with RunningDevkit(devkit_settings) as server:
        yield server


@pytest.fixture
def devkit_module(request: pytest.FixtureRequest, devkit_server: RunningDevkit) -> ModuleUnderTest:
    """The module this test belongs to: the nearest folder above it with a manifest.json, registered as it is now."""
    from devkit_api.testing.module import find_module, register

    path: Path = request.path
    return register(devkit_server, find_module(path, request.config.rootpath))
