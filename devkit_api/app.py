"""The application, put together: the only file that knows every domain.

`create_app` reads top to bottom in the order in which things live. Each resource with a lifetime is one generator;
aiohttp runs them in this order and tears them down in reverse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from devkit_api.execution.local import LocalExecutor
from devkit_api.httpio import BODY_LIMITS, BodyLimits
from devkit_api.middleware import chain, headers
from devkit_api.middleware.authentication import AUTHENTICATOR
from devkit_api.modules.bundles import BundleStore
from devkit_api.modules.routes import INCOMING, MODULE_RUNS, REGISTRY
from devkit_api.modules.routes import ROUTES as MODULE_ROUTES
from devkit_api.modules.service import ModuleRegistry
from devkit_api.modules.watcher import ModulesWatcher
from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.routes import OBJECTS, RUN_STORAGE, URL_SIGNER
from devkit_api.objects.routes import ROUTES as OBJECT_ROUTES
from devkit_api.objects.run_storage import RunStorage
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.routing import ROUTE_POLICIES, add_routes
from devkit_api.runs.context import PublicAddress
from devkit_api.runs.files import RunFiles
from devkit_api.runs.logs import RunLogs
from devkit_api.runs.plans import PlanBook
from devkit_api.runs.repository import RunRepository
from devkit_api.runs.routes import INTERACTIVE_TIMEOUT, RUNS
from devkit_api.runs.routes import ROUTES as RUN_ROUTES
from devkit_api.runs.service import RunService
from devkit_api.runs.supervisor import Supervisor
from devkit_api.runs.watch import RunWatch
from devkit_api.security.authentication import Authenticator, owner_principal
from devkit_api.security.credentials import Credentials, load_credentials
from devkit_api.security.policy import check_routes
from devkit_api.security.tokens import Signer
from devkit_api.settings import PREFIX, Problem, Settings, SettingsError
from devkit_api.state import DocumentStore
from devkit_api.state.json_files import JsonFileStore
from devkit_api.system.health import Health
from devkit_api.system.routes import HEALTH, RESET
from devkit_api.system.routes import ROUTES as SYSTEM_ROUTES

SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
ADDRESS: web.AppKey[PublicAddress] = web.AppKey("address", PublicAddress)
STORE: web.AppKey[DocumentStore] = web.AppKey("store", DocumentStore)
BUNDLES: web.AppKey[BundleStore] = web.AppKey("bundles", BundleStore)
WATCHER: web.AppKey[list[ModulesWatcher]] = web.AppKey("watcher", list[ModulesWatcher])

Context = Callable[[web.Application], AsyncIterator[None]]


def create_app(settings: Settings) -> web.Application:
    """The devkit for these settings. Raises `SettingsError` for what this version cannot do."""
    _refuse_unsupported(settings)
    credentials = load_credentials(settings)
    assert credentials is not None  # noqa: S101  `create` is on
    app = web.Application(middlewares=[chain], client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[BODY_LIMITS] = BodyLimits(settings.max_body_bytes, settings.max_source_bytes, settings.max_object_bytes)
    app[ADDRESS] = PublicAddress(settings.public_url or f"http://{_reachable(settings.host)}:{settings.port}")
    app[INTERACTIVE_TIMEOUT] = settings.interactive_timeout
    app[INCOMING] = settings.state_dir / "incoming"
    app[HEALTH] = Health()
    _build_domains(app, settings, credentials)
    _add_routes(app)
    app.on_response_prepare.append(headers.on_prepare)
    app.on_shutdown.append(_on_shutdown)
    lives: tuple[Context, ...] = (_state_lock, _object_store, _module_registry, _executor, _run_supervisor, _watcher)
    app.cleanup_ctx.extend(lives)
    return app


def _build_domains(app: web.Application, settings: Settings, credentials: Credentials) -> None:
    """Construct every service; nothing is opened and nothing is read yet."""
    state = settings.state_dir.resolve()
    signer = Signer(credentials.signing_secret)
    store = app[STORE] = JsonFileStore(state)
    bundles = BundleStore(state / "bundles", settings.max_source_bytes)
    objects = app[OBJECTS] = FileObjectStore(state / "objects")
    registry = app[REGISTRY] = ModuleRegistry(store, bundles, settings.allowed_source_roots)
    repository = RunRepository(store, settings.max_stored_runs)
    files = RunFiles(state / "run-files")
    runs = RunService(
        modules=registry,
        repository=repository,
        plans=PlanBook(store),
        logs=RunLogs(files, settings.max_log_bytes),
        files=files,
        watch=RunWatch(repository),
        signer=signer,
        address=app[ADDRESS],
        longest_runtime=settings.max_runtime_seconds,
        output_bytes=settings.max_output_bytes,
        file_bytes=settings.max_file_mb * 1024**2,
        on_removed=objects.delete_namespace,
    )
    runs.supervisor = Supervisor(
        repository=repository,
        executor=LocalExecutor(
            state / "work", bundles.path, kill_grace=min(settings.shutdown_grace, 5.0),
            keep_workdirs=settings.keep_workdirs, warm_memory_bytes=settings.warm_memory_mb * 1024**2,
            import_seconds=settings.import_timeout, isolation=settings.isolation,
        ),
        logs=runs.logs,
        files=files,
        workers=settings.workers,
        queue_limit=settings.queue_limit,
        make_spec=runs.make_spec,
        on_finished=runs.retain,
    )  # fmt: skip
    app[RUNS] = app[MODULE_RUNS] = runs
    app[BUNDLES] = bundles
    app[URL_SIGNER] = UrlSigner(signer)
    app[RUN_STORAGE] = RunStorage(objects, app[URL_SIGNER], app[ADDRESS], settings.s3_bucket, settings.max_object_bytes)
    owner = owner_principal(settings.user_id, settings.org_id)
    app[AUTHENTICATOR] = Authenticator(credentials.api_key, owner, signer, runs)


def _add_routes(app: web.Application) -> None:
    app[ROUTE_POLICIES] = {}
    routes = [*SYSTEM_ROUTES, *MODULE_ROUTES, *RUN_ROUTES, *OBJECT_ROUTES]
    check_routes(route.policy for route in routes)
    add_routes(app, routes)


async def _state_lock(app: web.Application) -> AsyncIterator[None]:
    store = app[STORE]
    await store.open()
    app[HEALTH].checks["state"] = _state_check(app)
    yield
    await store.close()


async def _object_store(app: web.Application) -> AsyncIterator[None]:
    await app[OBJECTS].open()
    yield
    await app[OBJECTS].close()


async def _module_registry(app: web.Application) -> AsyncIterator[None]:
    await app[REGISTRY].load()
    yield


async def _executor(app: web.Application) -> AsyncIterator[None]:
    executor = app[RUNS].supervisor.executor
    await executor.open()
    yield
    await executor.close()


async def _run_supervisor(app: web.Application) -> AsyncIterator[None]:
    runs = app[RUNS]
    await runs.repository.load()
    await runs.plans.sweep()
    await runs.files.sweep(runs.repository.ids)
    await app[BUNDLES].sweep(app[REGISTRY].bundle_digests | runs.repository.bundle_digests)
    await runs.supervisor.recover()
    app[RESET] = _reset(app)
    yield
    await runs.supervisor.close()


async def _watcher(app: web.Application) -> AsyncIterator[None]:
    """Last to start: what the directory holds is registered over what was stored."""
    directory = app[SETTINGS].modules_dir
    watcher = ModulesWatcher(app[REGISTRY], directory) if directory is not None else None
    app[WATCHER] = [watcher] if watcher is not None else []
    if watcher is not None:
        await watcher.start()
    app[HEALTH].started = True
    yield
    if watcher is not None:
        await watcher.stop()


async def _on_shutdown(app: web.Application) -> None:
    """New connections are refused by now: let go of whoever only waits."""
    app[HEALTH].stopping = True
    app[RUNS].watch.release()


def _state_check(app: web.Application) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        await app[STORE].put("health", "probe", {"ok": True})

    return check


def _reset(app: web.Application) -> Callable[[], Awaitable[None]]:
    async def reset() -> None:
        await app[RUNS].clear()
        await app[REGISTRY].clear()
        for watcher in app[WATCHER]:
            await watcher.scan()

    return reset


def _reachable(host: str) -> str:
    """The address under which this machine's own processes reach a server bound to `host`."""
    if host in {"0.0.0.0", "::", "localhost"}:  # noqa: S104  compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _refuse_unsupported(settings: Settings) -> None:
    """What the settings can say and this version cannot do is refused, not ignored."""
    asked = {
        "STATE_BACKEND": settings.state_backend != "json",
        "EXECUTOR": settings.executor != "local",
        "S3_ENDPOINT": settings.s3_endpoint is not None,
        "DB_HOST": settings.db_host is not None,
        "API_KEYS_FILE": settings.api_keys_file is not None,
    }
    problems = [
        Problem(PREFIX + name, "this version does not support that yet", f"unset {PREFIX}{name}")
        for name, is_asked in asked.items()
        if is_asked
    ]
    if problems:
        raise SettingsError(problems)
