"""The parts of a run's life, put together."""

from __future__ import annotations

from collections.abc import Callable

from devkit_api.execution.protocol import Executor, Limits
from devkit_api.modules.service import ModuleRegistry
from devkit_api.objects.inputs import Inputs
from devkit_api.public_address import PublicAddress
from devkit_api.runs.admission import Admission
from devkit_api.runs.callbacks import RunCallbacks
from devkit_api.runs.context import Orders
from devkit_api.runs.ends import RunEnds
from devkit_api.runs.files import RunFiles
from devkit_api.runs.logs import RunLogs
from devkit_api.runs.plans import PlanBook
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.retention import Retention
from devkit_api.runs.service import RunService
from devkit_api.runs.supervisor import Supervisor
from devkit_api.runs.watch import RunWatch
from devkit_api.security.tokens import Signer
from devkit_api.settings import Settings
from devkit_api.state import DocumentStore

_MIB = 1024**2


def build_runs(
    settings: Settings,
    store: DocumentStore,
    executor: Executor,
    *,
    slots: Callable[[], int],
    modules: ModuleRegistry,
    inputs: Inputs,
    signer: Signer,
    address: PublicAddress,
) -> RunService:
    """Runs on this executor, as many at a time as `slots` says. Nothing is opened, and nothing is read."""
    files = RunFiles(settings.state_dir.resolve() / "run-files")
    repository = RunRepository(store, settings.max_stored_runs)
    plans, logs, watch = PlanBook(store), RunLogs(files, settings.max_log_bytes), RunWatch(repository)
    bounds = Limits(
        runtime_seconds=settings.max_runtime_seconds,
        output_bytes=settings.max_output_bytes,
        file_bytes=settings.max_file_mb * _MIB,
        work_bytes=settings.max_work_mb * _MIB,
        work_entries=settings.max_work_files,
    )
    orders = Orders(signer, address, bounds)
    retention = Retention(repository, files, inputs)
    supervisor = Supervisor(
        repository=repository,
        executor=executor,
        logs=logs,
        ends=RunEnds(repository, files, retention.retain),
        slots=slots,
        queue_limit=settings.queue_limit,
        make_spec=orders.make,
        on_log=watch.notify,
    )
    return RunService(
        repository=repository,
        plans=plans,
        logs=logs,
        files=files,
        watch=watch,
        supervisor=supervisor,
        admission=Admission(modules, repository, plans, inputs, signer, supervisor, settings.max_runtime_seconds),
        callbacks=RunCallbacks(repository, files, retention),
        retention=retention,
        orders=orders,
    )
