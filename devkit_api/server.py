"""Run the application as a process: bind, say when it is ready, stop in order on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from devkit_api.app import create_app
from devkit_api.errors import Unavailable
from devkit_api.execution.isolation import close_own_process, unreachable
from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.zygote.lane import Doors
from devkit_api.lifetimes import ADDRESS, OWNERSHIP, end_runs_elsewhere
from devkit_api.protocol import Runner
from devkit_api.public_address import PublicAddress
from devkit_api.runs.routes import RUNS
from devkit_api.settings import Problem, Settings, SettingsError
from devkit_api.standby import stand_by
from devkit_api.state import OwnershipLost, StateError
from devkit_api.system.routes import HEALTH

log = logging.getLogger(__name__)

OnReady = Callable[[PublicAddress], None]
# Told who owns the state while this devkit stands by.
OnWaiting = Callable[[str], None]


def serve(settings: Settings, on_ready: OnReady, on_waiting: OnWaiting) -> None:
    """Serve until a signal. `on_ready` is called with the addresses once requests are answered.

    Raises `OwnershipLost` when another devkit has taken over the state meanwhile.
    """
    close_own_process()
    try:
        import uvloop
    except ImportError:  # pragma: no cover  not on every platform
        asyncio.run(_serve(settings, on_ready, on_waiting))
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, on_ready, on_waiting))


async def _serve(settings: Settings, on_ready: OnReady, on_waiting: OnWaiting) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tls = _tls(settings)
    app = create_app(settings)
    _stop_when_lost(app, stop)
    runner = Runner(
        app,
        client_timeout=settings.client_timeout,
        access_log=None,
        shutdown_timeout=settings.shutdown_grace,
        max_connections=settings.max_connections,
        keepalive_timeout=settings.keepalive_timeout,
        handle_signals=False,
    )
    with _listen(settings) as sock:
        _announce(app, settings, sock.getsockname()[1])
        ownership = app[OWNERSHIP]
        if settings.standby and ownership is not None and not await stand_by(ownership, sock, stop, tls, on_waiting):
            return
        try:
            if await _set_up_unless(stop, runner, settings):
                await web.SockSite(runner, sock, ssl_context=tls).start()
                open_doors(app, runner, tls)
                if not stop.is_set():
                    on_ready(app[ADDRESS])
                await stop.wait()
                log.info("stopping", extra={"grace_seconds": settings.shutdown_grace})
                await end_runs_elsewhere(app)
        finally:
            await runner.cleanup()
    if ownership is not None and ownership.lost is not None:
        raise OwnershipLost(ownership.lost)


def _stop_when_lost(app: web.Application, stop: asyncio.Event) -> None:
    """A devkit whose state is another's has nothing true to answer."""
    ownership, health = app[OWNERSHIP], app[HEALTH]
    if ownership is None:
        return

    def lost(reason: str) -> None:
        health.lost = reason
        stop.set()

    ownership.on_lost = lost


async def _set_up_unless(stop: asyncio.Event, runner: Runner, settings: Settings) -> bool:
    """Open everything; False when `stop` came first: a database that is away is waited for, and so is a directory."""
    stopping = asyncio.create_task(stop.wait())
    try:
        # In this task, which also takes everything down: some of what is opened has to be closed where it was opened.
        async with asyncio.timeout(None) as limit:

            def end(_: asyncio.Task[Any]) -> None:
                limit.reschedule(0)

            stopping.add_done_callback(end)
            try:
                await _set_up(runner, settings)
            finally:
                stopping.remove_done_callback(end)
    except TimeoutError:
        if not stop.is_set():
            raise
        return False
    finally:
        stopping.cancel()
    return True


async def _set_up(runner: Runner, settings: Settings) -> None:
    """Open everything; what is wrong with the state directory is said in words."""
    try:
        await runner.setup()
    except Unavailable as exc:
        raise StateError(exc.message) from exc
    except OSError as exc:
        reason = f"{exc.filename or settings.state_dir} cannot be used ({os.strerror(exc.errno or 0)})"
        fix = "remove or repair it, or export DEVKIT_STATE_DIR=another-directory"
        raise SettingsError([Problem("DEVKIT_STATE_DIR", reason, fix)]) from exc


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    closed = unreachable([str(settings.ca_bundle.parent)]) if settings.ca_bundle and os.geteuid() == 0 else None
    if closed is not None:
        reason = f"modules run as another user, who may not enter {closed} to read what to trust"
        raise SettingsError([Problem("DEVKIT_TLS_CERT", reason, "keep the folder of `tls init` where others may read")])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (ssl.SSLError, OSError) as exc:
        reason = f"the certificate and key cannot be used ({exc.strerror or 'not PEM, or they do not belong together'})"
        raise SettingsError([Problem("DEVKIT_TLS_CERT", reason, "python -m devkit_api tls init")]) from exc
    return context


def open_doors(app: web.Application, runner: web.AppRunner, tls: ssl.SSLContext | None) -> None:
    """Serve modules without network as well, each on the socket in its own."""
    executor = app[RUNS].supervisor.executor
    address = urlsplit(app[ADDRESS].own_url)
    if not isinstance(executor, LocalExecutor) or address.hostname is None or address.port is None:
        return

    async def serve_on(sock: socket.socket) -> Callable[[], Awaitable[None]]:
        site = web.SockSite(runner, sock, ssl_context=tls)
        await site.start()

        async def stop() -> None:
            if site in runner.sites:  # the runner stops them all when the server stops
                await site.stop()

        return stop

    executor.pool.doors = Doors(address.hostname, address.port, serve_on)


def _listen(settings: Settings) -> socket.socket:
    """Listen before anything starts: recovered runs call back at once, and wait in the backlog until we accept."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as exc:
        reason = f"port {settings.port} of {settings.host} cannot be used ({os.strerror(exc.errno or 0)})"
        raise SettingsError([Problem("DEVKIT_PORT", reason, "export DEVKIT_PORT=0, or stop what uses it")]) from exc


def _announce(app: web.Application, settings: Settings, port: int) -> None:
    """Port 0 became a real one."""
    address = app[ADDRESS]
    if address.own_url == settings.public_url:
        return
    address.own_url = address.own_url.rsplit(":", 1)[0] + f":{port}"
    if settings.public_url is None:
        address.base_url = address.own_url
