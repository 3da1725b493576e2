"""The engine of a worker: the executor that a devkit on its own has too, in a folder of the worker's."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import certifi
from distributed import Worker, WorkerPlugin

from devkit_api import jsonio
from devkit_api.atomic import write_atomic
from devkit_api.execution.cluster.codec import EngineSettings
from devkit_api.execution.cluster.worker.relay import open_relay
from devkit_api.execution.cluster.worker.sources import FetchedSources
from devkit_api.execution.environments.store import Environments
from devkit_api.execution.isolation import Surroundings, close_own_process
from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.workdir import remove_tree
from devkit_api.execution.zygote.lane import Doors
from devkit_api.modules.bundles import BundleStore

log = logging.getLogger(__name__)

PLUGIN = "hla-compass-devkit"
# Devkits, or settings of one, that a worker keeps an engine for.
_MOST_ENGINES = 4


@attrs.define(eq=False)
class Engine:
    """One executor with the sources it needs. `users` counts the runs in it."""

    executor: LocalExecutor
    sources: FetchedSources
    trust: dict[str, str]
    folder: Path
    users: int = 0

    async def close(self) -> None:
        """End its runs and remove what it kept."""
        await self.executor.close()
        await asyncio.to_thread(remove_tree, self.folder)


class Engines(WorkerPlugin):  # type: ignore[misc]  # Dask is skipped by mypy
    """The engines of one worker; they end with it."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._opening = asyncio.Lock()
        self._root = Path()
        self._hidden: tuple[Path, ...] = ()

    def setup(self, worker: Worker) -> None:
        """Part of the plugin protocol."""
        # What other workers and other people's tasks keep on the disk is no module's business.
        local = Path(worker.local_directory).resolve()
        self._hidden, self._root = (local.parent,), local / PLUGIN

    async def teardown(self, worker: Worker) -> None:
        """Part of the plugin protocol: end what runs."""
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))
        self._engines.clear()

    @asynccontextmanager
    async def engine(self, settings: EngineSettings, authority: str | None) -> AsyncIterator[Engine]:
        """The engine for these settings, kept while it is used. Raises `OSError`."""
        key = hashlib.sha256(jsonio.canonical([attrs.asdict(settings), authority])).hexdigest()[:16]
        async with self._opening:
            engine = self._engines.get(key)
            if engine is None:
                await self._make_room()
                engine = self._engines[key] = await self._open(self._root / key, settings, authority)
            engine.users += 1
        try:
            yield engine
        finally:
            engine.users -= 1

    async def _make_room(self) -> None:
        idle = [key for key, engine in self._engines.items() if not engine.users]
        for key in idle[: max(0, len(self._engines) - _MOST_ENGINES + 1)]:
            await self._engines.pop(key).close()

    async def _open(self, folder: Path, settings: EngineSettings, authority: str | None) -> Engine:
        close_own_process()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trusted").mkdir(exist_ok=True)
        for path in (folder, self._root):
            path.chmod(0o711)  # modules may have users of their own, and find their files by these folders
        bundles = BundleStore(folder / "bundles", settings.max_source_bytes)
        sources = FetchedSources(folder / "incoming", bundles, settings.cache_bytes)
        await sources.open()
        executor = LocalExecutor(
            folder / "work", bundles.path, kill_grace=settings.kill_grace, keep_workdirs=False,
            warm_memory_bytes=settings.warm_memory_bytes, import_seconds=settings.import_seconds,
            isolation=settings.isolation, around=Surroundings(self._hidden, (folder / "trusted",)),
            environments=Environments(
                folder / "environments", settings.environment_days, enabled=settings.environments
            ),
        )  # fmt: skip
        executor.pool.doors = _doors(settings.api_url)
        await executor.open()
        log.info("engine of a devkit opened", extra={"devkit": settings.api_url})
        return Engine(executor, sources, _trust(folder, authority), folder)


async def engines_of(worker: Worker) -> Engines:
    """The engines of this worker."""
    engines = worker.plugins.get(PLUGIN)
    if engines is None:
        engines = Engines()
        await worker.plugin_add(plugin=engines, name=PLUGIN, catch_errors=False)
    assert isinstance(engines, Engines)  # noqa: S101  the name is ours
    return engines


def _doors(api_url: str) -> Doors | None:
    """How modules without network reach the devkit. None for a name: without a network none can be looked up."""
    parts = urlsplit(api_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if host != "localhost" and not re.fullmatch(r"[0-9.]+|::1", host):
        return None

    async def relay(door: socket.socket) -> Callable[[], Awaitable[None]]:
        return await open_relay(door, host, port)

    return Doors(host, port, relay)


def _trust(folder: Path, authority: str | None) -> dict[str, str]:
    """Variables that have a module's process trust the devkit's own authority besides the usual ones."""
    if authority is None:
        return {}
    bundle = folder / "trusted" / "ca-bundle.pem"
    write_atomic(bundle, Path(certifi.where()).read_bytes() + b"\n" + authority.encode())
    bundle.chmod(0o644)
    return {name: str(bundle) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
