"""A devkit that stands by: it listens, says that it is not ready, and takes over when the owner of the state ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from aiohttp import hdrs, web

from devkit_api import __version__
from devkit_api.errors import StandingBy
from devkit_api.httpio import json_answer
from devkit_api.ids import utc_now
from devkit_api.middleware import correlation, errors, headers
from devkit_api.protocol import Runner
from devkit_api.state.postgres.ownership import Ownership
from devkit_api.system.health import ready_body

log = logging.getLogger(__name__)

STANDBY = "standby"


async def stand_by(
    ownership: Ownership,
    sock: socket.socket,
    stop: asyncio.Event,
    tls: ssl.SSLContext | None,
    on_waiting: Callable[[str], None],
) -> bool:
    """Wait until the state is ours; False when `stop` came first. `on_waiting` is told, once, who has it.

    Connections that come between the last answer given here and the first of the devkit itself wait in the backlog.
    """
    told: list[str] = []
    is_waiting = asyncio.Event()

    def waiting(owner: str) -> None:
        if not told:
            told.append(owner)
            is_waiting.set()

    taking = asyncio.create_task(ownership.stand_by(waiting), name="state-standby")
    stopping = asyncio.create_task(stop.wait())
    seen = asyncio.create_task(is_waiting.wait())
    runner = Runner(make_app(), access_log=None, handle_signals=False)
    try:
        await asyncio.wait({taking, stopping, seen}, return_when=asyncio.FIRST_COMPLETED)
        if told:
            await runner.setup()
            # A copy: closing the site closes its socket, and the devkit itself goes on with this one.
            await web.SockSite(runner, sock.dup(), ssl_context=tls).start()
            log.info("standing by: %s", told[0])
            on_waiting(told[0])
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            taking.result()
            log.info("taking over")
            return True
        return False
    finally:
        for task in (taking, stopping, seen):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await runner.cleanup()


def make_app() -> web.Application:
    """What answers meanwhile: `ready` and `health` as ever, everything else with `STANDING_BY`."""
    app = web.Application()
    app.on_response_prepare.append(_complete)
    app.router.add_get("/v1/system/ready", _ready)
    app.router.add_get("/v1/system/health", _health)
    app.router.add_route("*", "/{anything:.*}", _refuse)
    return app


async def _complete(request: web.Request, response: web.StreamResponse) -> None:
    correlation.begin(request)
    headers.complete(response)
    # So that the next request finds whoever answers by then. The headers are made already: this one is said by hand.
    response.force_close()
    response.headers[hdrs.CONNECTION] = "close"


async def _ready(_request: web.Request) -> web.Response:
    return json_answer(ready_body({"server": STANDBY}, utc_now()), status=503, headers={"Retry-After": "1"})


async def _health(_request: web.Request) -> web.Response:
    return json_answer(
        {"status": STANDBY, "version": __version__, "process": {"pid": os.getpid()}, "timestamp": utc_now()}
    )


async def _refuse(request: web.Request) -> web.Response:
    correlation.begin(request)
    return errors.answer(StandingBy(headers={"Retry-After": "1"}))
