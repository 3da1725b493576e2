"""What opens when the devkit starts and closes when it stops: one generator per resource, in the order of `LIFETIMES`.

aiohttp runs them in this order and tears them down in reverse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import attrs
from aiofiles.os import wrap
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

from devkit_api.catalogs.control.ingestion_routes import INGESTIONS
from devkit_api.catalogs.control.upload_routes import CATALOG_UPLOADS
from devkit_api.catalogs.purge import reset_catalogs
from devkit_api.catalogs.routes import CATALOGS
from devkit_api.catalogs.views.routes import VIEWS
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.lifetime import connected, running
from devkit_api.database.pool import Pool
from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.zygote.lane import Kind
from devkit_api.local_data.routes import LOCAL_DATA
from devkit_api.logs import audit_file
from devkit_api.middleware import correlation
from devkit_api.modules.bundles import BundleStore
from devkit_api.modules.models import Module
from devkit_api.modules.publish.routes import DEPLOYMENTS, PUBLISH
from devkit_api.modules.routes import INCOMING, REGISTRY, prepare_incoming
from devkit_api.modules.service import ModuleRegistry
from devkit_api.modules.watcher import ModulesWatcher
from devkit_api.objects.input_routes import INPUTS
from devkit_api.objects.namespaces import UPLOADS, run_of
from devkit_api.objects.routes import OBJECTS
from devkit_api.objects.uploads.routes import PART_UPLOADS
from devkit_api.public_address import PublicAddress
from devkit_api.runs.routes import RUNS
from devkit_api.security.routes import LOGIN
from devkit_api.settings import Settings
from devkit_api.state import DocumentStore
from devkit_api.state.binding import bind, check_database, check_files
from devkit_api.state.folder import FolderLock
from devkit_api.state.postgres.ownership import Ownership
from devkit_api.system.routes import HEALTH, RESET
from devkit_api.transfer.commit import settle

if TYPE_CHECKING:
    from devkit_api.execution.cluster.executor import DaskExecutor
    from devkit_api.tracing.export import Tracing

log = logging.getLogger(__name__)
_LAST_SPANS_SECONDS = 5
# A network file system may take a lease of 90 seconds to notice that a machine is gone.
_OWNER_ENDS_SECONDS = 150.0

HTTP: web.AppKey[ClientSession] = web.AppKey("http_client", ClientSession)
SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
ADDRESS: web.AppKey[PublicAddress] = web.AppKey("address", PublicAddress)
STORE: web.AppKey[DocumentStore] = web.AppKey("store", DocumentStore)
STATE_LOCK: web.AppKey[FolderLock] = web.AppKey("state_lock", FolderLock)
OWNERSHIP: web.AppKey[Ownership | None] = web.AppKey("ownership")  # of documents in PostgreSQL
STATE_POOLS: web.AppKey[dict[str, Pool]] = web.AppKey("state_pools")
BUNDLES: web.AppKey[BundleStore] = web.AppKey("bundles", BundleStore)
EMBEDDED: web.AppKey[EmbeddedPostgres | None] = web.AppKey("embedded")
CLUSTER: web.AppKey[DaskExecutor] = web.AppKey("cluster")
TRACING: web.AppKey[Tracing | None] = web.AppKey("tracing")
WATCHER: web.AppKey[list[ModulesWatcher]] = web.AppKey("watcher", list[ModulesWatcher])

Context = Callable[[web.Application], AsyncIterator[None]]


async def _state_folder(app: web.Application) -> AsyncIterator[None]:
    """The directory is ours, and its files belong to the documents we are going to read."""
    lock, state = app[STATE_LOCK], app[SETTINGS].state_dir.resolve()
    ownership = app[OWNERSHIP]
    # Whoever stood by has the documents by now; the devkit that had them gives the directory back last.
    await lock.take(patience=_OWNER_ENDS_SECONDS if ownership is not None and ownership.is_taken else 0)
    try:
        await wrap(settle)(state)
        (check_files if ownership is None else check_database)(state)
        yield
    finally:
        lock.release()


async def _embedded_server(app: web.Application) -> AsyncIterator[None]:
    async with running(app[EMBEDDED]):
        yield


async def _state_store(app: web.Application) -> AsyncIterator[None]:
    """Before everything that keeps documents; after the server that may hold them."""
    store, ownership = app[STORE], app[OWNERSHIP]
    await store.open()
    try:
        if ownership is not None and ownership.mark is not None:
            bind(app[SETTINGS].state_dir.resolve(), ownership.mark.state_id)
            app[HEALTH].details["state"] = ownership.view
        app[HEALTH].checks["state"] = _state_check(app)
        yield
    finally:
        await store.close()


async def _object_store(app: web.Application) -> AsyncIterator[None]:
    await app[OBJECTS].open()
    await app[PART_UPLOADS].open()
    app[HEALTH].checks["objects"] = app[OBJECTS].check
    yield
    await app[PART_UPLOADS].close()
    await app[OBJECTS].close()


async def _local_data(app: web.Application) -> AsyncIterator[None]:
    yield
    app[LOCAL_DATA].close()


async def _database(app: web.Application) -> AsyncIterator[None]:
    if not app[SETTINGS].catalogs:
        yield
        return
    database = app[CATALOGS].database
    async with connected(database):
        app[HEALTH].checks["database"] = database.check
        app[HEALTH].details["databasePools"] = lambda: {n: stats.view() for n, stats in database.stats().items()}
        await app[CATALOG_UPLOADS].open()
        await app[INGESTIONS].open()
        yield
        await app[INGESTIONS].close()
        await app[CATALOG_UPLOADS].close()


async def _http_client(app: web.Application) -> AsyncIterator[None]:
    """One client for the outgoing calls (S3 has its own): connections are kept and shared."""
    limit = app[SETTINGS].http_connections
    connector = TCPConnector(limit=limit, limit_per_host=max(1, limit // 4), ttl_dns_cache=300, keepalive_timeout=30)
    async with ClientSession(
        connector=connector,
        timeout=ClientTimeout(total=30, connect=5),
        cookie_jar=DummyCookieJar(),
        trace_configs=[correlation.handed_on()],
    ) as app[HTTP]:
        yield


async def _audit(app: web.Application) -> AsyncIterator[None]:
    with audit_file(app[SETTINGS].audit_file):
        yield


async def _tracing(app: web.Application) -> AsyncIterator[None]:
    """Closes after the supervisor: stopping ends runs, and their spans are sent as well."""
    yield
    tracing = app[TRACING]
    if tracing is not None and not await asyncio.to_thread(tracing.close, _LAST_SPANS_SECONDS):
        log.warning("the collector did not take the last traces in time")


async def _module_registry(app: web.Application) -> AsyncIterator[None]:
    await prepare_incoming(app[INCOMING])
    await app[BUNDLES].open()
    await app[REGISTRY].load()
    yield


async def _executor(app: web.Application) -> AsyncIterator[None]:
    executor = app[RUNS].supervisor.executor
    cluster = app.get(CLUSTER)
    if cluster is not None:
        cluster.scheduler.on_change = app[RUNS].supervisor.fill
        app[HEALTH].checks["scheduler"] = cluster.scheduler.check
        app[HEALTH].details["cluster"] = cluster.view
    await executor.open()
    if app[SETTINGS].prewarm and isinstance(executor, LocalExecutor):
        _keep_warm(app[REGISTRY], executor)
    yield
    await executor.close()


def _keep_warm(registry: ModuleRegistry, executor: LocalExecutor) -> None:
    """Import what is registered now, and whatever will be."""

    def warm(module: Module) -> None:
        if module.bundle is not None and module.manifest.get("computeType") != "pipeline":
            variables = tuple(sorted(module.environment_variables.items()))
            kind = Kind(module.module_id, module.version, module.bundle.digest, module.entrypoint, variables)
            executor.prewarm(attrs.evolve(kind, network=module.has_network, memory_mb=module.memory_mb))

    for module in registry.current():
        warm(module)
    registry.on_registered = warm


async def _run_supervisor(app: web.Application) -> AsyncIterator[None]:
    runs = app[RUNS]
    await runs.repository.load()
    await runs.plans.sweep()
    await app[LOGIN].sweep()
    await runs.files.sweep(runs.repository.ids)
    await app[BUNDLES].sweep(app[REGISTRY].bundle_digests | runs.repository.bundle_digests)
    known = runs.repository.ids | await runs.plans.run_ids()
    await app[OBJECTS].sweep(lambda namespace: (run := run_of(namespace)) is None or run in known)
    await runs.supervisor.recover()
    await runs.retention.retain()  # DEVKIT_MAX_STORED_RUNS may be lower than last time
    app[RESET] = _reset(app)
    yield
    await runs.supervisor.close()


async def _publish(app: web.Application) -> AsyncIterator[None]:
    """After the bundles nobody uses are gone: the intake makes new ones."""
    await app[PUBLISH].open()
    await app[DEPLOYMENTS].open()
    yield
    await app[DEPLOYMENTS].close()
    await app[PUBLISH].close()


async def _watcher(app: web.Application) -> AsyncIterator[None]:
    """Last to start: what the directory holds is registered over what was stored."""
    directory, state = app[SETTINGS].modules_dir, app[SETTINGS].state_dir
    watcher = ModulesWatcher(app[REGISTRY], directory, ignored=state) if directory is not None else None
    app[WATCHER] = [watcher] if watcher is not None else []
    if watcher is not None:
        await watcher.start()
    app[HEALTH].started = True
    yield
    if watcher is not None:
        await watcher.stop()


async def end_runs_elsewhere(app: web.Application) -> None:
    """Have the workers of a cluster end their runs. Before the server stops: it reads no connection after that."""
    if CLUSTER in app:
        app[HEALTH].stopping = True
        await app[RUNS].supervisor.close()


async def release_waiting(app: web.Application) -> None:
    """New connections are refused by now: let go of whoever only waits."""
    app[HEALTH].stopping = True
    app[RUNS].watch.release()


def _state_check(app: web.Application) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        await app[STORE].put("health", "probe", {"ok": True})

    return check


def _reset(app: web.Application) -> Callable[[], Awaitable[None]]:
    async def reset() -> None:
        # Closed to the end: a run or an upload let in in the middle would lose the files it was promised.
        gates = (app[RUNS].admission.gate, app[PART_UPLOADS].gate, app[INPUTS].gate)
        async with AsyncExitStack() as closed:
            for gate in gates:
                await closed.enter_async_context(gate.closed())
            try:
                await clear()
            finally:
                for watcher in app[WATCHER]:
                    await watcher.scan()

    async def clear() -> None:
        await app[RUNS].clear()
        await app[PUBLISH].clear()
        await app[DEPLOYMENTS].clear()
        await app[REGISTRY].clear()
        if app[SETTINGS].catalogs:
            await _reset_catalogs(app)
        await app[PART_UPLOADS].clear()
        await app[OBJECTS].delete_namespace(UPLOADS)
        await app[OBJECTS].sweep(lambda _namespace: False)

    return reset


async def _reset_catalogs(app: web.Application) -> None:
    """Files last: what is interrupted in between leaves files nobody names, not names without files."""
    await app[INGESTIONS].clear()
    await reset_catalogs(app[CATALOGS].database)
    app[CATALOGS].forget()
    await app[CATALOG_UPLOADS].clear()
    await app[VIEWS].clear()


# The directory first: the embedded server keeps its data there, and the server may keep the documents.
# The supervisor after the pools it uses: aiohttp cancels loose tasks only when every context has closed.
LIFETIMES: tuple[Context, ...] = (
    _state_folder, _embedded_server, _state_store, _audit, _tracing, _object_store, _local_data, _database,
    _http_client, _module_registry, _executor, _run_supervisor, _publish, _watcher,
)  # fmt: skip
