"""One run at a worker: call the devkit, take the order, have it executed, tell how it ended."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import attrs
from aiofiles.os import wrap
from distributed import Worker, get_worker
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from devkit_api import __version__
from devkit_api.execution.cluster import frames
from devkit_api.execution.cluster.attended import attended
from devkit_api.execution.cluster.codec import EngineSettings, decode_spec, encode_outcome
from devkit_api.execution.cluster.frames import Broken, Channel, expect, listen, say, send
from devkit_api.execution.cluster.summons import Summons
from devkit_api.execution.cluster.worker.engine import Engine, engines_of
from devkit_api.execution.cluster.worker.outbox import Outbox
from devkit_api.execution.cluster.worker.sources import Fetch
from devkit_api.execution.protocol import Execution, Outcome, RunSpec, StopReason
from devkit_api.execution.sources import SourceChanged
from devkit_api.modules.source_files import MAX_FILES, check_name

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_TRIES = 4
_TAKEN_SECONDS = 30.0
_NO_DOOR = (
    "its manifest says it has no network, and without one the devkit's name cannot be looked up; "
    "DEVKIT_PUBLIC_URL has to be an address in numbers for it"
)
_NO_LONGER = 401  # the ticket was used or withdrawn


async def answer_summons(text: str) -> str | None:
    """Execute the run, if it is still to be had; else why this worker cannot (see `summons.Task`)."""
    summons, worker = Summons.from_text(text), get_worker()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http,
            await _call(http, summons) as channel,
            attended(channel) as heard,
        ):
            await _Session(summons, worker, heard).hold()
    except aiohttp.WSServerHandshakeError as exc:
        if exc.status == _NO_LONGER:
            return None
        return f"{worker.address} is not let in by the devkit at {summons.url} (HTTP {exc.status})"
    except (OSError, aiohttp.ClientError) as exc:
        reason = str(exc) or type(exc).__name__
        return f"the worker {worker.address} cannot reach the devkit at {summons.url} ({reason[:300]})"
    except Broken as exc:
        log.warning("run given up: %s", exc, extra={"run": summons.run_id})
    return None


async def _call(http: aiohttp.ClientSession, summons: Summons) -> Any:
    """The connection. Nobody has the run until it stands, so it may be tried again."""
    trust: ssl.SSLContext | bool = True
    if summons.authority is not None:
        trust = ssl.create_default_context()
        trust.load_verify_locations(cadata=summons.authority)
    retrying = AsyncRetrying(
        stop=stop_after_attempt(_TRIES), wait=wait_random_exponential(0.4, max=3), reraise=True,
        retry=retry_if_exception_type((aiohttp.ClientConnectorError, TimeoutError)),
    )  # fmt: skip
    return await retrying(_connect, http, summons, trust)


async def _connect(
    http: aiohttp.ClientSession, summons: Summons, trust: ssl.SSLContext | bool
) -> aiohttp.ClientWebSocketResponse:
    async with asyncio.timeout(_CONNECT_SECONDS):
        # Of a message's length the devkit's settings are the bound: it sends the run's parameters.
        return await http.ws_connect(
            summons.url + frames.PATH, headers={frames.TICKET_HEADER: summons.ticket}, ssl=trust, max_msg_size=0,
            heartbeat=frames.HEARTBEAT_SECONDS,
        )  # fmt: skip


class _Session:
    """The talk from `hello` to `taken`. When it breaks off, the run is ended: nobody would hear of it."""

    def __init__(self, summons: Summons, worker: Worker, channel: Channel) -> None:
        self._summons = summons
        self._worker = worker
        self._channel = channel

    async def hold(self) -> None:
        """Execute one run. Raises `Broken`."""
        await say(self._channel, "hello", version=__version__, worker=self._worker.address)
        order = await expect(self._channel, "order")
        spec, settings = decode_spec(order["spec"]), EngineSettings(**order["engine"])
        try:
            engines = await engines_of(self._worker)
            async with (
                engines.engine(settings, self._summons.authority) as engine,
                engine.sources.held(spec.source_digest, self._fetcher(settings)),
            ):
                await self._execute(engine, spec)
        except SourceChanged:
            await self._tell(Outcome(problem="its source is not what was registered; register the module again"))
        except OSError as exc:
            log.exception("run could not be executed", extra={"run": spec.run_id})
            reason = f"the worker {self._worker.address} could not make ready for it ({exc.strerror or exc})"
            await self._tell(Outcome(problem=reason))

    async def _execute(self, engine: Engine, spec: RunSpec) -> None:
        if not spec.network and engine.executor.pool.doors is None:
            await self._tell(Outcome(problem=_NO_DOOR))
            return
        await say(self._channel, "begun")
        spec = attrs.evolve(spec, environment={**engine.trust, **spec.environment})
        outbox = Outbox(self._channel)
        execution = await engine.executor.launch(spec, outbox)
        listening = asyncio.create_task(self._obey(execution), name=f"obey-{spec.run_id}")
        try:
            outcome = await execution.wait()
            await outbox.close()
            await self._tell(outcome)
            with suppress(TimeoutError, Broken):
                async with asyncio.timeout(_TAKEN_SECONDS):
                    await asyncio.shield(listening)
        except BaseException:
            # The devkit is gone, or Dask takes the task away. The engine sees the run to its end.
            outbox.drop()
            execution.stop(StopReason.SHUTDOWN)
            await asyncio.shield(execution.wait())
            raise
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            _ = listening.cancelled() or listening.exception()

    async def _obey(self, execution: Execution) -> None:
        """Until the devkit has taken the outcome. Whatever breaks the connection ends the run."""
        try:
            while True:
                said = await listen(self._channel)
                if isinstance(said, bytes):
                    raise Broken("it sent bytes nobody asked for")
                match said["op"]:
                    case "stop":
                        execution.stop(StopReason(said["reason"]))
                    case "taken":
                        return
        except Broken:
            execution.stop(StopReason.SHUTDOWN)
            raise

    async def _tell(self, outcome: Outcome) -> None:
        await say(self._channel, "outcome", **encode_outcome(outcome))
        output = outcome.output or b""
        for start in range(0, len(output), frames.CHUNK):
            await send(self._channel, frames.FILE, output[start : start + frames.CHUNK])

    def _fetcher(self, settings: EngineSettings) -> Fetch:
        async def fetch(folder: Path) -> None:
            await say(self._channel, "want-source")
            await receive_source(self._channel, folder, settings.max_source_bytes)

        return fetch


async def receive_source(channel: Channel, folder: Path, max_bytes: int) -> None:
    """Write the files that come into `folder`. Raises `Broken`, `SourceInvalid` for a name, or `OSError`."""
    files = 0
    while (said := await _next_file(channel)) is not None:
        name, size = PurePosixPath(str(said["name"])), int(said["size"])
        max_bytes, files = max_bytes - size, files + 1
        if size < 0 or max_bytes < 0 or files > MAX_FILES:
            raise Broken("its source is larger than a source may be")
        check_name(name)
        await _receive(channel, folder / name, size)


async def _next_file(channel: Channel) -> dict[str, Any] | None:
    said = await listen(channel)
    if not isinstance(said, bytes) and said["op"] == "stop":
        raise Broken("the run was stopped before it began")
    if isinstance(said, bytes) or said["op"] not in ("file", "source-end"):
        raise Broken("its source did not come whole")
    return said if said["op"] == "file" else None


async def _receive(channel: Channel, path: Path, size: int) -> None:
    await _write(path, b"", new=True)
    while size > 0:
        said = await listen(channel)
        if not isinstance(said, bytes) or said[:1] != frames.SOURCE or len(said) - 1 > size:
            raise Broken("its source did not come whole")
        size -= len(said) - 1
        await _write(path, said[1:], new=False)


@wrap
def _write(path: Path, data: bytes, *, new: bool) -> None:
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb" if new else "ab") as file:
        file.write(data)
