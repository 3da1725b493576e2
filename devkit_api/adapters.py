"""The adapters that the settings choose: where documents and files are, where runs execute, who is told of traces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from devkit_api.database.lifetime import embedded_server, target_of
from devkit_api.execution.cluster.routes import TICKETS
from devkit_api.execution.environments.store import Environments
from devkit_api.execution.isolation import Surroundings
from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.protocol import Executor
from devkit_api.lifetimes import ADDRESS, CLUSTER, EMBEDDED, OWNERSHIP, STATE_LOCK, STATE_POOLS
from devkit_api.modules.bundles import BundleStore
from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.protocol import ObjectStore
from devkit_api.settings import Settings
from devkit_api.state import DocumentStore
from devkit_api.state.folder import FolderLock
from devkit_api.state.json_files import JsonFileStore
from devkit_api.state.postgres.store import PostgresStore
from devkit_api.system.routes import HEALTH

if TYPE_CHECKING:
    from devkit_api.tracing.export import Tracing


def store_of(app: web.Application, settings: Settings, state: Path) -> DocumentStore:
    """Where documents are kept, and what decides whose they are."""
    lock = app[STATE_LOCK] = FolderLock(state)
    app[EMBEDDED] = embedded_server(settings)
    if settings.state_backend == "json":
        app[OWNERSHIP], app[STATE_POOLS] = None, {}
        return JsonFileStore(state, lock)
    store = PostgresStore(target_of(settings, app[EMBEDDED]))
    app[OWNERSHIP], app[STATE_POOLS] = store.ownership, store.pools
    store.ownership.on_lost = lambda reason: setattr(app[HEALTH], "lost", reason)
    return store


def executor_of(app: web.Application, settings: Settings, bundles: BundleStore) -> tuple[Executor, Callable[[], int]]:
    """The executor, and how many runs it takes at a time."""
    if settings.executor == "dask":
        return _cluster(app, settings, bundles)
    state, trusted = settings.state_dir.resolve(), app[ADDRESS].ca_bundle
    local = LocalExecutor(
        state / "work", bundles.path, kill_grace=settings.kill_grace,
        keep_workdirs=settings.keep_workdirs, warm_memory_bytes=settings.warm_memory_mb * 1024**2,
        import_seconds=settings.import_timeout, isolation=settings.isolation,
        environments=Environments(
            state / "environments", settings.environment_days, enabled=settings.module_environments
        ),
        around=Surroundings(readable=() if trusted is None else (trusted,)),
    )  # fmt: skip
    return local, lambda: settings.workers


def _cluster(app: web.Application, settings: Settings, bundles: BundleStore) -> tuple[Executor, Callable[[], int]]:
    from devkit_api.execution.cluster.assembly import build_cluster  # an extra, and slow to import

    cluster = app[CLUSTER] = build_cluster(settings, bundles.path, app[TICKETS], app[ADDRESS])
    return cluster, lambda: cluster.slots


def object_store_of(settings: Settings, state: Path) -> ObjectStore:
    """Where files are kept."""
    if settings.s3_endpoint is None:
        return FileObjectStore(state / "objects", settings.max_version_bytes)
    from devkit_api.objects.s3 import S3ObjectStore  # an extra, and slow to import

    return S3ObjectStore(settings, state)


def tracing_of(settings: Settings) -> Tracing | None:
    """Who is told of requests and runs, if anybody is."""
    if settings.otlp_endpoint is None:
        return None
    from devkit_api.tracing.export import to_collector  # an extra, and slow to import

    return to_collector(settings.otlp_endpoint)


def cluster_figures(app: web.Application) -> Callable[[], tuple[bool, int]] | None:
    """Whether the scheduler answers, and how many workers it has; None without a cluster."""
    cluster = app.get(CLUSTER)
    if cluster is None:
        return None
    return lambda: (cluster.scheduler.is_connected, cluster.scheduler.cluster.workers)
