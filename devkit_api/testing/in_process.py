"""The application in the test's own process and event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_asyncio

if TYPE_CHECKING:
    from aiohttp.test_utils import TestClient


@pytest_asyncio.fixture
async def devkit(tmp_path: Path, devkit_settings: dict[str, Any]) -> AsyncIterator[TestClient[Any, Any]]:
    """An aiohttp test client of a fresh devkit, with the API key on every request."""
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    from devkit_api.app import create_app
    from devkit_api.protocol import Runner
    from devkit_api.settings import load_settings
    from devkit_api.testing.server import environment, new_key

    class Server(TestServer):
        """With the devkit's own protocol, so that broken requests are answered as they would be."""

        async def _make_runner(self, **kwargs: Any) -> web.BaseRunner:
            return Runner(self.app, **kwargs)

    key = new_key()
    app = create_app(load_settings(environment(tmp_path / "devkit-state", key, devkit_settings)))
    async with TestClient(Server(app), headers={"X-API-Key": key}) as client:
        yield client
