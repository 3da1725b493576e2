"""Raw HTTP against the real server, and what every answer of it must be."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from devkit_api.app import create_app
from devkit_api.security.headers import SECURITY_HEADERS
from devkit_api.settings import load_settings
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE

ORIGIN = "http://localhost:5173"
HEAD = f"Host: devkit\r\nX-API-Key: {TEST_KEY}\r\n"


def assert_no_surprises(devkit: DevkitProcess) -> None:
    """Nothing in the log that was not foreseen: no traceback, no 5xx, every line JSON."""
    for line in whole_lines(devkit.log_text()):
        record = json.loads(line)
        assert record["level"] in {"INFO", "WARNING", "DEBUG"}, line
        assert "exc_info" not in record, line


def whole_lines(text: str) -> list[str]:
    """Lines of a file that is being written to: the last one may not be all there yet."""
    return text[: text.rfind("\n") + 1].splitlines()


def port(devkit: DevkitProcess) -> int:
    return int(devkit.endpoint.rsplit(":", 1)[1])


@asynccontextmanager
async def connection(devkit: DevkitProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(devkit))
    try:
        yield reader, writer
    finally:
        writer.close()


def assert_complete(headers: Any) -> None:
    found = {name.lower(): value for name, value in headers.items()}
    for name, value in SECURITY_HEADERS.items():
        assert found[name.lower()] in {value, "cross-origin"}, name
    assert found["cache-control"] == "no-store"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", found["x-correlation-id"])
    assert "server" not in found


def every_route() -> list[tuple[str, str]]:
    """Method and path of every route but the one that resets."""
    with TemporaryDirectory() as folder:
        app = create_app(load_settings({"DEVKIT_API_KEY": TEST_KEY, "DEVKIT_STATE_DIR": folder}))
    routes = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource is not None}
    return sorted(routes - {("POST", "/v1/devkit/reset"), ("POST", "/v1/api/devkit/reset")})


async def pipelined(devkit: DevkitProcess, requests: list[bytes], at_once: int = 20) -> list[tuple[int, bytes]]:
    """Answers to many requests over keep-alive connections, `at_once` connections at a time."""
    answers: list[tuple[int, bytes]] = []
    queue = iter(requests)

    async def work() -> None:
        reader = writer = None
        for request in queue:
            for attempt in (1, 2):
                if writer is None or reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port(devkit), limit=2**22)
                try:
                    writer.write(request)
                    async with asyncio.timeout(PATIENCE):
                        head = await reader.readuntil(b"\r\n\r\n")
                        status, fields = int(head.split(b" ", 2)[1]), head.lower()
                        size = re.search(rb"content-length: (\d+)", fields)
                        is_head = request.startswith(b"HEAD ")
                        body = b"" if is_head or size is None else await reader.readexactly(int(size[1]))
                except (asyncio.IncompleteReadError, ConnectionError):
                    writer.close()
                    writer = None
                    if attempt == 2:
                        raise
                    continue
                answers.append((status, head + body))
                if b"connection: close" in fields or (size is None and not is_head and status not in {204, 304}):
                    writer.close()
                    writer = None
                break
        if writer is not None:
            writer.close()

    await asyncio.gather(*(work() for _ in range(at_once)))
    return answers


def raw(method: str, path: str, body: bytes = b"", key: str = TEST_KEY, **fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: devkit", f"X-API-Key: {key}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body or method in {"POST", "PUT", "PATCH"}:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
