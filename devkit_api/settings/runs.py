"""Settings: how runs are executed, and what one may take."""

from __future__ import annotations

import os

import attrs

from devkit_api.settings.declare import setting
from devkit_api.settings.values import boolean, choice, dask_address, identifier, positive_seconds, whole_number


@attrs.frozen(kw_only=True, slots=False)
class RunSettings:
    """Executor, workers, environments, and the limits of a run."""

    executor: str = setting(
        "EXECUTOR", "local", choice("local", "dask"), "Where runs execute: this machine or a Dask cluster.",
        example="local",
    )  # fmt: skip
    dask_scheduler: str | None = setting(
        "DASK_SCHEDULER", None, dask_address, "Address of the Dask scheduler.", example="tcp://10.0.0.5:8786"
    )
    dask_resource: str | None = setting(
        "DASK_RESOURCE",
        None,
        identifier,
        "Dask resource of which each run takes one; unset, a run takes a thread of its worker.",
        example="devkit",
    )
    dask_cache_mb: int = setting(
        "DASK_CACHE_MB",
        2048,
        whole_number(1, 1024**2),
        "Module sources each Dask worker keeps, in MiB; the least recently used go first.",
        example="2048",
    )
    workers: int = setting(
        "WORKERS",
        attrs.Factory(lambda: os.cpu_count() or 1),
        whole_number(1, 1024),
        "Runs executed at a time; default: the number of cores, on a Dask cluster what its workers have.",
        example="4",
    )
    warm_memory_mb: int = setting(
        "WARM_MEMORY_MB",
        1024,
        whole_number(0, 1024**2),
        "Memory for modules kept warm between runs, in MiB; the least recently used go first.",
        example="1024",
    )
    import_timeout: float = setting(
        "IMPORT_TIMEOUT",
        30.0,
        positive_seconds(600),
        "How long a module's import may take before its runs import it themselves, each anew.",
        example="30",
    )
    max_file_mb: int = setting(
        "MAX_FILE_MB",
        4096,
        whole_number(1, 1024**2),
        "Largest file a module's process may write in its work directory, in MiB.",
        example="4096",
    )
    max_work_mb: int = setting(
        "MAX_WORK_MB",
        16384,
        whole_number(1, 1024**3),
        "Disk space a run may take in its work directory and its own /tmp, in MiB; looked at about every second.",
        example="16384",
    )
    max_work_files: int = setting(
        "MAX_WORK_FILES",
        200_000,
        whole_number(100, 100_000_000),
        "Files and folders a run may have in its work directory and its own /tmp.",
        example="200000",
    )
    isolation: str = setting(
        "ISOLATION",
        "auto",
        choice("auto", "namespaces", "process"),
        "How runs are kept apart: as well as this machine can, in namespaces or not at all, or as processes only.",
        example="auto",
    )
    module_environments: bool = setting(
        "MODULE_ENVIRONMENTS",
        True,
        boolean,
        "Install what backend/requirements.txt asks for and the devkit lacks, in an environment of the module's own.",
        example="on",
    )
    environment_days: int = setting(
        "ENVIRONMENT_DAYS",
        30,
        whole_number(1, 3650),
        "Environments of modules that no run has used for so long are removed when the devkit starts.",
        example="30",
    )
    prewarm: bool = setting(
        "PREWARM",
        False,
        boolean,
        "Import modules when they are registered, not when their first run comes.",
        example="off",
    )
    queue_limit: int = setting(
        "QUEUE_LIMIT",
        10_000,
        whole_number(1, 10_000_000),
        "Runs that may wait for a worker; one more is answered 429.",
        example="10000",
    )
    max_runtime_seconds: int = setting(
        "MAX_RUNTIME_SECONDS", 14_400, whole_number(1, 7 * 86_400), "Longest run time any run gets.", example="14400"
    )
    max_log_bytes: int = setting(
        "MAX_LOG_BYTES", 10 * 1024 * 1024, whole_number(1024, 1024**3), "Log text kept per run.", example="10485760"
    )
    max_output_bytes: int = setting(
        "MAX_OUTPUT_BYTES", 64 * 1024 * 1024, whole_number(1024, 1024**3), "Largest module output.", example="67108864"
    )
    interactive_timeout: float = setting(
        "INTERACTIVE_TIMEOUT",
        30.0,
        positive_seconds(55),
        "How long an interactive start waits for the result. The SDK gives up after 60 s.",
        example="30",
    )
    shutdown_grace: float = setting(
        "SHUTDOWN_GRACE",
        10.0,
        positive_seconds(600),
        "Time for requests in flight at shutdown, and for a stopped run between SIGTERM and SIGKILL (at most 5 s).",
        example="10",
    )
    keep_workdirs: bool = setting(
        "KEEP_WORKDIRS", False, boolean, "Keep the work directory of each run, to look into it.", example="true"
    )
