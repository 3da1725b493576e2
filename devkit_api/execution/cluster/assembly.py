"""The executor of a cluster, from the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from devkit_api.execution.cluster.codec import EngineSettings
from devkit_api.execution.cluster.executor import DaskExecutor
from devkit_api.execution.cluster.scheduler import Scheduler
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.public_address import PublicAddress
from devkit_api.settings import Settings

_MIB = 1024**2


def build_cluster(
    settings: Settings, bundle_path: Callable[[str], Path], tickets: Tickets, address: PublicAddress
) -> DaskExecutor:
    """Nothing is opened yet."""
    assert settings.dask_scheduler is not None  # noqa: S101  the settings were checked
    engine = EngineSettings(
        api_url=address.base_url,
        kill_grace=settings.kill_grace,
        warm_memory_bytes=settings.warm_memory_mb * _MIB,
        import_seconds=settings.import_timeout,
        isolation=settings.isolation,
        environments=settings.module_environments,
        environment_days=settings.environment_days,
        cache_bytes=settings.dask_cache_mb * _MIB,
        max_source_bytes=settings.max_source_bytes,
    )
    scheduler = Scheduler(settings.dask_scheduler, settings.dask_resource)
    return DaskExecutor(scheduler, tickets, bundle_path, address, engine, most=settings.most_on_cluster)
