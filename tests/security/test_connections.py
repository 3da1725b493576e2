"""The limits of connections are settings, and the server keeps them."""

from __future__ import annotations

import socket
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devkit_api.app import HTTP
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

MOST = 64


def connect(devkit: DevkitProcess) -> socket.socket:
    address = urlsplit(devkit.endpoint)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=PATIENCE)


def is_cut(connection: socket.socket) -> bool:
    """Whether the server ends the connection without a word; fails when it says nothing for `PATIENCE`."""
    try:
        return connection.recv(1024) == b""
    except ConnectionResetError:
        return True


def whole_answer(connection: socket.socket) -> HTTPResponse:
    """The answer, read to its end: it may come in parts."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer


def test_idle_and_too_many_connections_are_closed(tmp_path: Path) -> None:
    with DevkitProcess(tmp_path / "devkit", keepalive_timeout=0.2, max_connections=MOST, client_timeout=600) as devkit:
        with connect(devkit) as idle:
            idle.sendall(b"GET /v1/system/version HTTP/1.1\r\nHost: devkit\r\n\r\n")
            assert whole_answer(idle).status == 200
            assert is_cut(idle)
        silent = [connect(devkit) for _ in range(MOST)]
        try:
            with connect(devkit) as last:
                assert is_cut(silent[0])
                last.sendall(b"GET /v1/system/version HTTP/1.1\r\nHost: devkit\r\n\r\n")
                assert last.recv(65536).startswith(b"HTTP/1.1 200")
                silent[1].sendall(b"GET /v1/system/version HTTP/1.1\r\nHost: devkit\r\n\r\n")
                assert silent[1].recv(65536).startswith(b"HTTP/1.1 200")
        finally:
            for connection in silent:
                connection.close()


async def test_connections_to_others_are_bounded(make_client: Any) -> None:
    client = await make_client(http_connections=12)
    connector = client.app[HTTP].connector
    assert (connector.limit, connector.limit_per_host) == (12, 3)
