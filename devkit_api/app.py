"""The application, put together: with `lifetimes.py` and `route_table.py` the only file that knows every domain.

`create_app` constructs; nothing is opened, and nothing is read but credentials. Which adapters there are for a setting
is in `adapters.py`; what opens and closes, and in which order, in `lifetimes.py`.
"""

from __future__ import annotations

from pathlib import Path

import attrs
from aiohttp import web

from devkit_api.adapters import cluster_figures, executor_of, object_store_of, store_of, tracing_of
from devkit_api.apidocs.routes import REFERENCE, Reference
from devkit_api.catalogs.control.admin import CatalogAdmin
from devkit_api.catalogs.control.ingestion_routes import INGESTIONS
from devkit_api.catalogs.control.ingestions import IngestionService
from devkit_api.catalogs.control.routes import ADMIN
from devkit_api.catalogs.control.upload_routes import CATALOG_UPLOADS
from devkit_api.catalogs.control.uploads import UploadService
from devkit_api.catalogs.routes import CATALOGS, SQL_LIMITS
from devkit_api.catalogs.service import CatalogService
from devkit_api.catalogs.sqldoor import SqlLimits
from devkit_api.catalogs.views.routes import VIEWS
from devkit_api.catalogs.views.service import ViewService
from devkit_api.database.lifetime import build_database, target_of
from devkit_api.execution.cluster.routes import TICKETS
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.httpio import BODY_LIMITS, BodyLimits
from devkit_api.lifetimes import (
    ADDRESS,
    BUNDLES,
    EMBEDDED,
    HTTP,
    LIFETIMES,
    SETTINGS,
    STATE_POOLS,
    STORE,
    TRACING,
    release_waiting,
)
from devkit_api.local_data.routes import LOCAL_DATA
from devkit_api.local_data.service import LocalData
from devkit_api.logs import hide_values
from devkit_api.middleware import chain, cors, headers
from devkit_api.middleware.authentication import AUTHENTICATOR
from devkit_api.middleware.compression import COMPRESS_ABOVE
from devkit_api.middleware.deadline import ANSWER_SECONDS, READS, Reads
from devkit_api.middleware.rate_limit import RATE_LIMITER
from devkit_api.middleware.tracing import around
from devkit_api.modules.bundles import BundleStore
from devkit_api.modules.publish.deployments import DeploymentService
from devkit_api.modules.publish.routes import DEPLOYMENTS, PUBLISH, PUBLISH_ADDRESS
from devkit_api.modules.publish.service import PublishService
from devkit_api.modules.publish.uploads import Uploads
from devkit_api.modules.routes import INCOMING, MODULE_RUNS, REGISTRY
from devkit_api.modules.service import ModuleRegistry
from devkit_api.objects.addresses import Addresses
from devkit_api.objects.input_routes import INPUTS
from devkit_api.objects.inputs import Inputs
from devkit_api.objects.quota import RunQuota
from devkit_api.objects.routes import OBJECTS, RUN_STORAGE, URL_SIGNER
from devkit_api.objects.run_storage import RunStorage
from devkit_api.objects.signed_urls import UrlSigner
from devkit_api.objects.uploads.routes import PART_UPLOADS
from devkit_api.objects.uploads.service import PartUploads
from devkit_api.public_address import PublicAddress
from devkit_api.route_table import all_routes
from devkit_api.routing import add_routes
from devkit_api.runs.artifact_routes import ARTIFACTS, REPORTS
from devkit_api.runs.artifacts import Artifacts
from devkit_api.runs.assembly import build_runs
from devkit_api.runs.links import RunLinks
from devkit_api.runs.reports import Reports
from devkit_api.runs.routes import INTERACTIVE_TIMEOUT, LINKS, RUNS
from devkit_api.security import jwks
from devkit_api.security.api_keys import ApiKeyBook
from devkit_api.security.authentication import Authenticator, owner_principal
from devkit_api.security.credentials import Credentials, load_credentials
from devkit_api.security.login import Login
from devkit_api.security.policy import check_routes
from devkit_api.security.private_files import PrivateFile
from devkit_api.security.proxies import PROXIES, Proxies
from devkit_api.security.rate_limit import RateLimiter
from devkit_api.security.routes import LOGIN
from devkit_api.security.sessions import Sessions
from devkit_api.security.tokens import Signer
from devkit_api.security.users import UserBook
from devkit_api.settings import RateLimit, Settings
from devkit_api.supported import refuse_unsupported
from devkit_api.system.health import Health
from devkit_api.system.metrics import METRICS, Metrics, Sources
from devkit_api.system.routes import HEALTH

# Each costs a slow hash.
LOGINS = RateLimit(30, 60, 10)


def create_app(settings: Settings) -> web.Application:
    """The devkit for these settings. Raises `SettingsError` for what this version cannot do."""
    refuse_unsupported(settings)
    credentials = load_credentials(settings)
    assert credentials is not None  # noqa: S101  `create` is on
    tracing = tracing_of(settings)
    middlewares = [chain] if tracing is None else [around(tracing), chain]
    app = web.Application(middlewares=middlewares, client_max_size=settings.max_body_bytes)
    app[TRACING] = tracing
    app[SETTINGS] = settings
    hide_values(credentials.api_key, credentials.signing_secret, settings.db_password, settings.s3_secret_key)
    app[BODY_LIMITS] = BodyLimits(
        settings.max_body_bytes, settings.max_source_bytes, settings.max_object_bytes, settings.max_output_bytes
    )
    own = settings.own_url
    is_elsewhere = settings.executor != "local"
    app[ADDRESS] = PublicAddress(settings.public_url or own, own, settings.ca_bundle, runs_elsewhere=is_elsewhere)
    app[INTERACTIVE_TIMEOUT] = settings.interactive_timeout
    # What has a time limit of its own is not cut before it.
    app[ANSWER_SECONDS] = max(settings.answer_timeout, settings.interactive_timeout + 5, settings.sql_timeout + 5)
    app[COMPRESS_ABOVE] = settings.compress_above
    app[INCOMING] = settings.state_dir / "incoming"
    app[HEALTH] = Health()
    app[READS] = Reads()
    app[PROXIES] = Proxies(settings.trusted_proxies)
    _build_domains(app, settings, credentials)
    _build_catalogs(app, settings)
    _build_metrics(app)
    _add_routes(app)
    cors.setup(app, settings.cors_origins)
    headers.setup(app, https=app[ADDRESS].base_url.startswith("https:"))
    app.on_shutdown.append(release_waiting)
    app.cleanup_ctx.extend(LIFETIMES)
    return app


def _build_domains(app: web.Application, settings: Settings, credentials: Credentials) -> None:
    """Construct every service; nothing is opened and nothing is read yet."""
    state = settings.state_dir.resolve()
    signer = Signer(credentials.signing_secret)
    store = app[STORE] = store_of(app, settings, state)
    bundles = BundleStore(state / "bundles", settings.max_source_bytes)
    objects = app[OBJECTS] = object_store_of(settings, state)
    app[LOCAL_DATA] = LocalData(settings.data_roots, _own_files(settings))
    inputs = app[INPUTS] = Inputs(objects, settings.s3_bucket, app[LOCAL_DATA], lambda: app[VIEWS])
    registry = app[REGISTRY] = ModuleRegistry(store, bundles, settings.allowed_source_roots)
    app[TICKETS] = Tickets()
    executor, slots = executor_of(app, settings, bundles)
    runs = build_runs(
        settings, store, executor, slots=slots, modules=registry, inputs=inputs, signer=signer, address=app[ADDRESS]
    )
    app[RUNS] = app[MODULE_RUNS] = runs
    app[BUNDLES] = bundles
    uploads = Uploads(state / "publish-uploads", signer)
    app[PUBLISH] = PublishService(store, registry, uploads, settings.org_id, settings.max_source_bytes)
    app[DEPLOYMENTS] = DeploymentService(store, registry, bundles.is_intact)
    app[PUBLISH_ADDRESS] = app[ADDRESS]
    app[URL_SIGNER] = UrlSigner(signer)
    addresses = Addresses(objects, app[URL_SIGNER], app[ADDRESS])
    quota = RunQuota(objects, settings.max_run_bytes, settings.max_run_files)
    app[PART_UPLOADS] = PartUploads(
        store, objects, app[URL_SIGNER], addresses, address=app[ADDRESS], bucket=settings.s3_bucket,
        max_bytes=settings.max_object_bytes,
    )  # fmt: skip
    app[ARTIFACTS] = Artifacts(objects, addresses, settings.s3_bucket)
    app[REPORTS] = Reports(objects, addresses, inputs)
    app[LINKS] = RunLinks(signer, app[ADDRESS])
    app[RUN_STORAGE] = RunStorage(objects, addresses, quota, settings.s3_bucket, settings.max_object_bytes)
    sessions = attrs.evolve(sessions_of(settings, credentials), keys=_key_set(app, settings))
    keys_file, users_file = PrivateFile(settings.api_keys_path), PrivateFile(settings.users_path)
    for file in (keys_file, users_file):
        file.check()
    app[LOGIN] = Login(UserBook(users_file), sessions, store, settings.org_id)
    app[RATE_LIMITER] = _rate_limiter(settings)
    app[AUTHENTICATOR] = Authenticator(
        api_key=credentials.api_key,
        owner=owner_principal(settings.user_id, settings.org_id),
        keys=ApiKeyBook(keys_file, settings.org_id),
        signer=signer,
        sessions=sessions,
        runs=runs,
    )


def sessions_of(settings: Settings, credentials: Credentials) -> Sessions:
    """The bearer tokens these settings accept."""
    return Sessions(credentials.signing_secret, settings.jwt_issuer, settings.jwt_audience, settings.org_id)


def _key_set(app: web.Application, settings: Settings) -> jwks.KeySet | None:
    """The keys of another token issuer, when one is named."""
    if settings.jwt_jwks_file is not None:
        return jwks.from_file(settings.jwt_jwks_file)
    url = settings.jwt_jwks_url
    return None if url is None else jwks.from_address(url, lambda: app[HTTP])


def _own_files(settings: Settings) -> tuple[Path, ...]:
    """What holds the devkit's secrets and state, also when it lies under a data root."""
    others = (settings.api_keys_path, settings.audit_file)
    return (settings.state_dir.resolve(), *(path.resolve() for path in others if path is not None))


def _rate_limiter(settings: Settings) -> RateLimiter:
    return RateLimiter(
        {
            "read": settings.rate_limit_read,
            "write": settings.rate_limit_write,
            "run": settings.rate_limit_run,
            "refused": settings.rate_limit_refused,
            "login": LOGINS,
        }
    )


def _build_catalogs(app: web.Application, settings: Settings) -> None:
    """The database is made but not started; without catalogs there is none."""
    app[SQL_LIMITS] = SqlLimits(settings.sql_timeout, settings.sql_max_rows, settings.sql_max_bytes)
    database = build_database(settings, target_of(settings, app[EMBEDDED])) if settings.catalogs else None
    catalogs = app[CATALOGS] = CatalogService(database)
    admin = app[ADMIN] = CatalogAdmin(catalogs)
    app[CATALOG_UPLOADS] = UploadService(
        catalogs, admin, app[OBJECTS], app[URL_SIGNER], address=app[ADDRESS], bucket=settings.s3_bucket,
        max_bytes=settings.max_object_bytes,
    )  # fmt: skip
    app[INGESTIONS] = IngestionService(catalogs, admin, app[CATALOG_UPLOADS])
    addresses = Addresses(app[OBJECTS], app[URL_SIGNER], app[ADDRESS])
    app[VIEWS] = ViewService(catalogs, app[SQL_LIMITS], app[OBJECTS], addresses)


def _build_metrics(app: web.Application) -> None:
    runs = app[RUNS]
    metrics = app[METRICS] = Metrics()
    metrics.read_from(
        Sources(
            runs=runs.repository.counts,
            queued=lambda: runs.supervisor.queued,
            executing=lambda: runs.supervisor.executing,
            workers=runs.supervisor.slots,
            cluster=cluster_figures(app),
            modules=lambda: app[REGISTRY].count,
            pools=lambda: app[CATALOGS].pools | app[STATE_POOLS],
        )
    )
    runs.repository.listen(lambda run: metrics.ended(run.status.value, run.metrics) if run.is_terminal else None)
    if (tracing := app[TRACING]) is not None:
        runs.repository.listen(lambda run: tracing.ended(run) if run.is_terminal else None)


def _add_routes(app: web.Application) -> None:
    routes = all_routes()
    app[REFERENCE] = Reference(routes)
    check_routes(route.policy for route in routes)
    add_routes(app, routes)
