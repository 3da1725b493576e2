"""The reference: aiohttp on uvloop with one handler and nothing around it."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop
from aiohttp import web


def application(status: int, body: bytes, headers: dict[str, str], *, reads_body: bool) -> web.Application:
    """One handler for every path that is measured, with a prepared answer."""

    async def handler(request: web.Request) -> web.Response:
        if reads_body:
            await request.read()
        return web.Response(body=body, status=status, content_type="application/json", headers=headers)

    app = web.Application()
    for method, path in (
        ("GET", "/v1/modules"),
        ("POST", "/v1/module-runs"),
        ("GET", "/v1/system/ready"),
        ("POST", "/v1/devkit/modules"),
    ):
        app.router.add_route(method, path, handler)
    return app


async def serve(app: web.Application) -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"ready at {site.name.rsplit(':', 1)[0]}:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Options say what is answered."""
    options = argparse.ArgumentParser()
    options.add_argument("--status", type=int, required=True)
    options.add_argument("--body", type=Path, required=True)
    options.add_argument("--header", action="append", default=[])
    options.add_argument("--read", action="store_true")
    chosen = options.parse_args()
    headers = dict(line.split(": ", 1) for line in chosen.header)
    app = application(chosen.status, chosen.body.read_bytes(), headers, reads_body=chosen.read)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app))


if __name__ == "__main__":
    main()
