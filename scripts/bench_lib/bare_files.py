"""The reference for objects: aiohttp on uvloop that writes a body to a file and sends the file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiofiles
import uvloop
from aiohttp import web

from bench_lib.bare import serve


def application(folder: Path) -> web.Application:
    """`PUT` and `GET /file`."""
    path = folder / "bare-file"

    async def put(request: web.Request) -> web.Response:
        async with aiofiles.open(path, "wb") as file:
            async for chunk in request.content.iter_chunked(256 * 1024):
                await file.write(chunk)
        return web.Response()

    async def get(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application(client_max_size=1024**3)
    app.router.add_put("/file", put)
    app.router.add_get("/file", get)
    return app


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(application(Path(sys.argv[1]))))
