"""The application in this process, behind the protocol the real server uses."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from devkit_api.protocol import Runner
from tests.support.waiting import PATIENCE

# What changes without any request being accepted: the health probe, the lock and the credentials of the first start.
_EXCEPTED = ("health/",)


class DevkitServer(TestServer):
    """`TestServer` with the devkit's own runner."""

    __test__ = False

    async def _make_runner(self, **kwargs: Any) -> web.BaseRunner:
        return Runner(self.app, **kwargs)


def snapshot(state: Path) -> dict[str, str]:
    """Every file and folder of a state directory with the digest of its content. What goes meanwhile is not there."""
    found = {}
    for path in below(state):
        name = path.relative_to(state).as_posix()
        if not f"{name}/".startswith(_EXCEPTED):
            with suppress(FileNotFoundError):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
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
        await writer.wait_closed()
