"""Load: a fixed number of keep-alive connections, each sending its next request when the last one is answered.

A bare protocol on uvloop rather than an HTTP client, so that the client needs much less time per request than any
server measured with it. It runs in a process of its own, and reports how busy it was: a client near 100 % would hide
differences between servers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from time import perf_counter, process_time
from urllib.parse import urlsplit

import attrs
import uvloop

from bench_lib.machine import cores, pin
from bench_lib.servers import KEY

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_MAX_REQUESTS = 200_000


@attrs.frozen
class Load:
    """What was seen: answers, answers per second, latencies in seconds, and the share of time the client was busy."""

    answers: int
    rate: float
    p50: float
    p99: float
    client_busy: float


def measure(endpoint: str, method: str, path: str, *, seconds: float, clients: int = 8, body: bytes = b"") -> Load:
    """Load the server from a process of its own."""
    order = {"endpoint": endpoint, "method": method, "path": path, "seconds": seconds, "clients": clients}
    command = [sys.executable, "-m", "bench_lib.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        pin(client.pid, cores()[1])
        seen, _ = client.communicate(json.dumps({**order, "body": body.decode()}), timeout=seconds + 60)
    if client.returncode != 0:
        raise RuntimeError(f"the load of {method} {path} broke off")
    return Load(**json.loads(seen))


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float], deadline: float, done: asyncio.Future[None]) -> None:
        self._request = request
        self._latencies = latencies
        self._deadline = deadline
        self._done = done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        line_end = head.find(b"\r", at)
        length = int(head[at : line_end if line_end >= 0 else len(head)])
        if len(self._buffer) < end + len(_HEAD_END) + length:
            return
        if head[9:10] != b"2":
            self._fail(f"the server answered {head[9:12].decode()}")
            return
        self._buffer = b""
        now = perf_counter()
        self._latencies.append(now - self._sent)
        if now < self._deadline and len(self._latencies) < _MAX_REQUESTS:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(reason))
        self._transport.close()


async def _load(order: dict[str, object]) -> Load:
    address = urlsplit(str(order["endpoint"]))
    body = str(order["body"]).encode()
    lines = [f"{order['method']} {order['path']} HTTP/1.1", f"Host: {address.netloc}", f"X-API-Key: {KEY}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started, busy = perf_counter(), process_time()
    deadline = started + float(str(order["seconds"]))
    ends: list[asyncio.Future[None]] = []
    for _ in range(int(str(order["clients"]))):
        ends.append(loop.create_future())
        protocol = partial(_Connection, request, latencies, deadline, ends[-1])
        await loop.create_connection(protocol, address.hostname, address.port)
    await asyncio.gather(*ends)
    taken = perf_counter() - started
    latencies.sort()
    return Load(
        answers=len(latencies),
        rate=len(latencies) / taken,
        p50=latencies[len(latencies) // 2],
        p99=latencies[int(len(latencies) * 0.99)],
        client_busy=(process_time() - busy) / taken,
    )


def main() -> None:
    """One order on stdin, what was seen on stdout."""
    order = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(attrs.asdict(runner.run(_load(order)))))


if __name__ == "__main__":
    main()
