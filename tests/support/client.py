"""The application in this process, behind the protocol the real server uses."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from devkit_api.app import create_app
from devkit_api.execution.zygote.pool import ZygotePool
from devkit_api.protocol import Runner
from devkit_api.settings import load_settings
from tests.support.process import TEST_KEY
from tests.support.waiting import PATIENCE

# What changes without any request being accepted: the health probe, the lock and the credentials of the first start.
_EXCEPTED = ("health/",)


class DevkitServer(TestServer):
    """`TestServer` with the devkit's own runner."""

    __test__ = False

    async def _make_runner(self, **kwargs: Any) -> web.BaseRunner:
        return Runner(self.app, **kwargs)


def begin_nothing_ahead(patch: pytest.MonkeyPatch) -> None:
    """Applications in this process begin the processes of modules with the first run. Most tests of them run none, and
    would wait half a second each for the interpreter that is made ready at the start.
    """
    patch.setattr(ZygotePool, "open", lambda _: None)


@asynccontextmanager
async def client_of(state: Path, **settings: Any) -> AsyncIterator[TestClient[Any, Any]]:
    """The application as these settings make it, without catalogs unless they say so; the key is on every request."""
    environ = {"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": str(state), "DEVKIT_CATALOGS": "off"}
    environ |= {f"DEVKIT_{name.upper()}": str(value) for name, value in settings.items()}
    client = TestClient(DevkitServer(create_app(load_settings(environ))), headers={"X-API-Key": TEST_KEY})
    await client.start_server()
    client.app_state = state
    client.anonymous = ClientSession()  # the same server without the key
    try:
        yield client
    finally:
        await client.anonymous.close()
        await client.close()


def snapshot(state: Path) -> dict[str, str]:
    """Every file and folder of a state directory with the digest of its content. What goes meanwhile is not there."""
    found = {}
    for at, folders, names in os.walk(state):
        folder = "" if at == str(state) else f"{os.path.relpath(at, state)}/"
        if not folder.startswith(_EXCEPTED):
            found.update({f"{folder}{name}": "folder" for name in folders if not f"{name}/".startswith(_EXCEPTED)})
            for name in names:
                with suppress(FileNotFoundError), Path(at, name).open("rb") as file:
                    found[f"{folder}{name}"] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def below(folder: Path) -> list[Path]:
    """Every file and folder in a folder that a devkit may be changing, where `rglob` would stumble."""
    return sorted(Path(at, name) for at, folders, names in os.walk(folder) for name in (*folders, *names))


async def send_raw(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Bytes as they are to a loopback port; the first answer's status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body
    finally:
        writer.close()
        with suppress(ConnectionError):  # the other side may have closed it, with less read than was sent
            await writer.wait_closed()
