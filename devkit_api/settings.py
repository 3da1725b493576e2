"""Every setting of the devkit: variable, default, check and help text.

Nothing else in the package reads the environment. `load_settings` reports all wrong values at once, so that a
first start needs one round of fixing and not one per mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from devkit_api.settings_checks import (
    DataRoot,
    RateLimit,
    account,
    boolean,
    choice,
    data_roots,
    host_name,
    https_address,
    identifier,
    networks,
    origins,
    positive_seconds,
    rate_limit,
    secret,
    text,
    url,
    whole_number,
)

PREFIX = "DEVKIT_"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_FIELD = "devkit_setting"


@attrs.frozen
class SettingInfo:
    """What is known of one setting besides its value."""

    env: str
    help: str
    parse: Callable[[str], Any]
    expected: str
    example: str
    is_secret: bool = False


@attrs.frozen
class Problem:
    """One wrong value: the variable, why it is refused and the one step that fixes it."""

    variable: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.reason}. Fix: {self.fix}"


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def _setting(env: str, default: Any, parse: Callable[[str], Any], about: str, *, example: str) -> Any:
    info = SettingInfo(
        env=PREFIX + env,
        help=about,
        parse=parse,
        expected=getattr(parse, "expected", "text"),
        example=example,
        is_secret=parse is secret,
    )
    return attrs.field(default=default, metadata={_FIELD: info})


def _path(value: str) -> Path:
    return Path(value).expanduser()


_path.expected = "a path"  # type: ignore[attr-defined]


@attrs.frozen(kw_only=True)
class Settings:
    """The devkit's configuration, checked. Durations are seconds, sizes bytes."""

    host: str = _setting("HOST", "127.0.0.1", host_name, "Address to listen on.", example="127.0.0.1")
    port: int = _setting("PORT", 4100, whole_number(0, 65535), "Port to listen on; 0 takes a free one.", example="4100")
    public_url: str | None = _setting(
        "PUBLIC_URL",
        None,
        url,
        "Address under which clients and module processes reach the devkit, when it is not http://HOST:PORT.",
        example="http://devkit.lab.example:4100",
    )
    tls_cert: Path | None = _setting(
        "TLS_CERT", None, _path, "Certificate chain (PEM) to serve https with.", example="devkit-tls/cert.pem"
    )
    tls_key: Path | None = _setting(
        "TLS_KEY", None, _path, "Private key (PEM) of the certificate.", example="devkit-tls/key.pem"
    )
    state_dir: Path = _setting(
        "STATE_DIR", Path(".devkit"), _path, "Directory that holds everything the devkit keeps.", example=".devkit"
    )
    modules_dir: Path | None = _setting(
        "MODULES_DIR",
        None,
        _path,
        "Directory to watch: each subfolder with a manifest.json is a module.",
        example="./modules",
    )
    source_roots: tuple[Path, ...] = _setting(
        "SOURCE_ROOTS",
        (),
        lambda value: tuple(_path(part) for part in value.split(os.pathsep) if part),
        f"Directories from which `source.path` may register modules, joined by '{os.pathsep}'; MODULES_DIR is one.",
        example="/home/me/modules",
    )
    data_roots: tuple[DataRoot, ...] = _setting(
        "DATA_ROOTS",
        (),
        data_roots,
        "Folders whose files the pages of modules may browse and read, never write.",
        example="study=/home/me/study",
    )
    api_key: str | None = _setting(
        "API_KEY",
        None,
        secret,
        "The key clients send as X-API-Key. Generated into <state>/credentials.env on loopback when unset.",
        example="$(openssl rand -hex 24)",
    )
    api_keys_file: Path | None = _setting(
        "API_KEYS_FILE", None, _path, "File with further API keys, hashed, with roles and expiry.", example="keys.json"
    )
    jwt_secret: str | None = _setting(
        "JWT_SECRET",
        None,
        secret,
        "Secret that signs run tokens, object URLs and local sessions. Generated when unset.",
        example="$(openssl rand -hex 32)",
    )
    jwt_issuer: str = _setting("JWT_ISSUER", "hla-compass-devkit", text(200), "Issuer of accepted JWTs.", example="me")
    jwt_audience: str = _setting(
        "JWT_AUDIENCE", "hla-compass-devkit", text(200), "Audience of accepted JWTs.", example="hla-compass-devkit"
    )
    jwt_jwks_url: str | None = _setting(
        "JWT_JWKS_URL",
        None,
        https_address,
        "Key set of a token issuer (RFC 7517): its RS256 and ES256 tokens are accepted besides our own.",
        example="https://login.lab.example/.well-known/jwks.json",
    )
    jwt_jwks_file: Path | None = _setting(
        "JWT_JWKS_FILE", None, _path, "The same from a file, without any network.", example="jwks.json"
    )
    cors_origins: tuple[str, ...] = _setting(
        "CORS_ORIGINS",
        (),
        origins,
        "Browser origins that may call the API, separated by commas; none by default.",
        example="http://localhost:5173",
    )
    max_body_bytes: int = _setting(
        "MAX_BODY_BYTES",
        8 * 1024 * 1024,
        whole_number(1024, 1024**3),
        "Largest accepted JSON body.",
        example="8388608",
    )
    max_source_bytes: int = _setting(
        "MAX_SOURCE_BYTES",
        64 * 1024 * 1024,
        whole_number(1024, 8 * 1024**3),
        "Largest module source: the uploaded zip, and all its files unpacked.",
        example="67108864",
    )
    max_object_bytes: int = _setting(
        "MAX_OBJECT_BYTES",
        5 * 1024**3,
        whole_number(1024, 5 * 1024**4),
        "Largest single file a run may save.",
        example="5368709120",
    )
    client_timeout: float = _setting(
        "CLIENT_TIMEOUT",
        20.0,
        positive_seconds(600),
        "Patience with a client: to send its first request, and to send less than 1 KiB/s of a body.",
        example="20",
    )
    keepalive_timeout: float = _setting(
        "KEEPALIVE_TIMEOUT",
        75.0,
        positive_seconds(3600),
        "How long an idle connection is kept for a next request; longer than a proxy in front keeps it.",
        example="75",
    )
    max_connections: int = _setting(
        "MAX_CONNECTIONS",
        2000,
        whole_number(64, 100_000),
        "Connections at once, at most half as many as files may be open; then the oldest that asked nothing is cut.",
        example="2000",
    )
    http_connections: int = _setting(
        "HTTP_CONNECTIONS",
        32,
        whole_number(1, 1000),
        "Connections to other servers at once; a quarter of them to any one.",
        example="32",
    )
    compress_above: int = _setting(
        "COMPRESS_ABOVE",
        8192,
        whole_number(0, 1024**3),
        "Answers of more bytes are sent as gzip to clients that take it; 0: none. Streams and secrets never are.",
        example="8192",
    )
    answer_timeout: float = _setting(
        "ANSWER_TIMEOUT",
        60.0,
        positive_seconds(3600),
        "Longest time until a request is answered; streams, transfers, SQL and interactive starts have their own.",
        example="60",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "TRUSTED_PROXIES",
        (),
        networks,
        "Proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed; none by default.",
        example="127.0.0.1,10.0.0.0/8",
    )
    audit_file: Path | None = _setting(
        "AUDIT_FILE",
        None,
        _path,
        "File of the audit stream, JSON lines, mode 600, ten of 10 MiB kept. Unset, it goes to the log.",
        example=".devkit/audit.jsonl",
    )
    max_run_bytes: int = _setting(
        "MAX_RUN_BYTES",
        50 * 1024**3,
        whole_number(1024, 5 * 1024**4),
        "Most bytes all files of one run may have.",
        example="53687091200",
    )
    max_version_bytes: int = _setting(
        "MAX_VERSION_BYTES",
        1024**3,
        whole_number(0, 5 * 1024**4),
        "Most bytes the earlier versions of a run's files may take; 0 keeps none. A bucket keeps what it is set to.",
        example="1073741824",
    )
    max_run_files: int = _setting(
        "MAX_RUN_FILES", 100_000, whole_number(1, 10_000_000), "Most files one run may save.", example="100000"
    )
    rate_limit_read: RateLimit | None = _setting(
        "RATE_LIMIT_READ", RateLimit(6000, 1, 12000), rate_limit, "Reads per caller.", example="6000/second:12000"
    )
    rate_limit_write: RateLimit | None = _setting(
        "RATE_LIMIT_WRITE", RateLimit(3000, 1, 6000), rate_limit, "Writes per caller.", example="3000/second:6000"
    )
    rate_limit_run: RateLimit | None = _setting(
        "RATE_LIMIT_RUN", RateLimit(3000, 1, 6000), rate_limit, "Run starts per caller.", example="3000/second:6000"
    )
    log_level: str = _setting(
        "LOG_LEVEL", "INFO", choice("DEBUG", "INFO", "WARNING", "ERROR"), "Least severe level logged.", example="INFO"
    )
    log_format: str = _setting(
        "LOG_FORMAT", "console", choice("console", "json"), "Log lines for people or for machines.", example="json"
    )
    state_backend: str = _setting(
        "STATE_BACKEND", "json", choice("json", "postgres"), "Where module and run documents live.", example="json"
    )
    max_stored_runs: int = _setting(
        "MAX_STORED_RUNS",
        1000,
        whole_number(1, 10_000_000),
        "Finished runs kept; the oldest finished go first, unfinished ones never.",
        example="1000",
    )
    catalogs: bool = _setting(
        "CATALOGS",
        True,
        boolean,
        "Data catalogs; off starts no PostgreSQL, and their addresses answer 503.",
        example="on",
    )
    sql_timeout: float = _setting(
        "SQL_TIMEOUT", 30.0, positive_seconds(3600), "Longest time one SQL query of a user may take.", example="30"
    )
    sql_max_rows: int = _setting(
        "SQL_MAX_ROWS", 100_000, whole_number(1, 10_000_000), "Most rows one SQL query may answer.", example="100000"
    )
    sql_max_bytes: int = _setting(
        "SQL_MAX_BYTES",
        64 * 1024 * 1024,
        whole_number(1024, 1024**3),
        "Most bytes of JSON one SQL query may answer.",
        example="67108864",
    )
    db_pool_size: int = _setting(
        "DB_POOL_SIZE", 10, whole_number(1, 50), "Most database connections for the devkit itself.", example="10"
    )
    db_host: str | None = _setting(
        "DB_HOST", None, host_name, "PostgreSQL host; unset starts the embedded server.", example="db.lab.example"
    )
    db_port: int = _setting("DB_PORT", 5432, whole_number(1, 65535), "PostgreSQL port.", example="5432")
    db_name: str = _setting("DB_NAME", "hla_compass", identifier, "PostgreSQL database.", example="hla_compass")
    db_user: str = _setting("DB_USER", "hla_compass", account, "PostgreSQL user.", example="hla_compass")
    db_password: str | None = _setting(
        "DB_PASSWORD", None, secret, "PostgreSQL password.", example="$(openssl rand -hex 24)"
    )
    s3_endpoint: str | None = _setting(
        "S3_ENDPOINT", None, url, "S3 endpoint; unset keeps objects as files.", example="http://127.0.0.1:9000"
    )
    s3_access_key: str | None = _setting(
        "S3_ACCESS_KEY", None, account, "S3 access key.", example="devkit-objects-user"
    )
    s3_secret_key: str | None = _setting(
        "S3_SECRET_KEY", None, secret, "S3 secret key.", example="$(openssl rand -hex 24)"
    )
    s3_region: str = _setting("S3_REGION", "us-east-1", text(64), "S3 region.", example="us-east-1")
    s3_bucket: str = _setting(
        "S3_BUCKET", "hla-compass-devkit", text(63), "Bucket name, also in the s3:// URIs of results.", example="devkit"
    )
    executor: str = _setting(
        "EXECUTOR", "local", choice("local", "dask"), "Where runs execute: this machine or a Dask cluster.",
        example="local",
    )  # fmt: skip
    dask_scheduler: str | None = _setting(
        "DASK_SCHEDULER", None, text(300), "Address of the Dask scheduler.", example="tcp://10.0.0.5:8786"
    )
    workers: int = _setting(
        "WORKERS",
        attrs.Factory(lambda: os.cpu_count() or 1),
        whole_number(1, 1024),
        "Runs executed at a time; default: the number of cores.",
        example="4",
    )
    warm_memory_mb: int = _setting(
        "WARM_MEMORY_MB",
        1024,
        whole_number(0, 1024**2),
        "Memory for modules kept warm between runs, in MiB; the least recently used go first.",
        example="1024",
    )
    import_timeout: float = _setting(
        "IMPORT_TIMEOUT",
        30.0,
        positive_seconds(600),
        "How long a module's import may take before its runs import it themselves, each anew.",
        example="30",
    )
    max_file_mb: int = _setting(
        "MAX_FILE_MB",
        4096,
        whole_number(1, 1024**2),
        "Largest file a module's process may write in its work directory, in MiB.",
        example="4096",
    )
    isolation: str = _setting(
        "ISOLATION",
        "auto",
        choice("auto", "namespaces", "process"),
        "How runs are kept apart: as well as this machine can, in namespaces or not at all, or as processes only.",
        example="auto",
    )
    module_environments: bool = _setting(
        "MODULE_ENVIRONMENTS",
        True,
        boolean,
        "Install what backend/requirements.txt asks for and the devkit lacks, in an environment of the module's own.",
        example="on",
    )
    environment_days: int = _setting(
        "ENVIRONMENT_DAYS",
        30,
        whole_number(1, 3650),
        "Environments of modules that no run has used for so long are removed when the devkit starts.",
        example="30",
    )
    prewarm: bool = _setting(
        "PREWARM",
        False,
        boolean,
        "Import modules when they are registered, not when their first run comes.",
        example="off",
    )
    queue_limit: int = _setting(
        "QUEUE_LIMIT",
        10_000,
        whole_number(1, 10_000_000),
        "Runs that may wait for a worker; one more is answered 429.",
        example="10000",
    )
    max_runtime_seconds: int = _setting(
        "MAX_RUNTIME_SECONDS", 14_400, whole_number(1, 7 * 86_400), "Longest run time any run gets.", example="14400"
    )
    max_log_bytes: int = _setting(
        "MAX_LOG_BYTES", 10 * 1024 * 1024, whole_number(1024, 1024**3), "Log text kept per run.", example="10485760"
    )
    max_output_bytes: int = _setting(
        "MAX_OUTPUT_BYTES", 64 * 1024 * 1024, whole_number(1024, 1024**3), "Largest module output.", example="67108864"
    )
    interactive_timeout: float = _setting(
        "INTERACTIVE_TIMEOUT",
        30.0,
        positive_seconds(55),
        "How long an interactive start waits for the result. The SDK gives up after 60 s.",
        example="30",
    )
    shutdown_grace: float = _setting(
        "SHUTDOWN_GRACE",
        10.0,
        positive_seconds(600),
        "Time for requests in flight at shutdown, and for a stopped run between SIGTERM and SIGKILL (at most 5 s).",
        example="10",
    )
    keep_workdirs: bool = _setting(
        "KEEP_WORKDIRS", False, boolean, "Keep the work directory of each run, to look into it.", example="true"
    )
    org_id: str = _setting(
        "ORG_ID",
        "00000000-0000-4000-8000-00000000d0e1",
        identifier,
        "Organisation every local run belongs to.",
        example="00000000-0000-4000-8000-00000000d0e1",
    )
    user_id: str = _setting(
        "USER_ID",
        "00000000-0000-4000-8000-00000000d0e2",
        identifier,
        "User of the configured API key.",
        example="00000000-0000-4000-8000-00000000d0e2",
    )
    sources: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS

    @property
    def scheme(self) -> str:
        """How the devkit itself is spoken to."""
        return "https" if self.tls_cert else "http"

    @property
    def ca_bundle(self) -> Path | None:
        """What trusts the certificate, when `tls init` made it."""
        bundle = self.tls_cert.resolve().with_name("ca-bundle.pem") if self.tls_cert else None
        return bundle if bundle is not None and bundle.is_file() else None

    @property
    def api_keys_path(self) -> Path:
        """File of the named API keys."""
        return self.api_keys_file or self.state_dir / "api-keys.json"

    @property
    def users_path(self) -> Path:
        """File of the local users."""
        return self.state_dir / "users.json"

    @property
    def allowed_source_roots(self) -> tuple[Path, ...]:
        """Directories from which a request may name a module source."""
        watched = (self.modules_dir,) if self.modules_dir else ()
        return (*watched, *self.source_roots)


def setting_infos() -> dict[str, SettingInfo]:
    """Field name -> what is known of the setting, in declaration order."""
    return {f.name: f.metadata[_FIELD] for f in attrs.fields(Settings) if _FIELD in f.metadata}


def load_settings(environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from `environ`, with already parsed `overrides` (command-line options) on top.

    Raises `SettingsError` with every problem found. An empty variable counts as unset, except for secrets, where it
    is refused: an empty password in a compose file is a mistake worth hearing about.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for name, info in setting_infos().items():
        if overrides and overrides.get(name) is not None:
            values[name], sources[name] = overrides[name], "command line"
            continue
        raw = environ.get(info.env)
        if raw is None or (raw == "" and not info.is_secret):
            continue
        try:
            values[name], sources[name] = info.parse(raw), "environment"
        except ValueError as exc:
            problems.append(Problem(info.env, str(exc), f"export {info.env}={info.example}"))
    settings = Settings(**values, sources=sources)
    wrong = {problem.variable for problem in problems}
    problems += [problem for problem in _cross_checks(settings) if problem.variable not in wrong]
    if problems:
        raise SettingsError(problems)
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """`DEVKIT_*` variables that no setting reads: most often a typing mistake."""
    known = {info.env for info in setting_infos().values()}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _cross_checks(settings: Settings) -> Iterable[Problem]:
    if not settings.is_loopback and settings.api_key is None:
        yield Problem(
            PREFIX + "API_KEY",
            f"{settings.host} is reachable from other machines, and no key is set",
            f"export {PREFIX}API_KEY=$(openssl rand -hex 24)",
        )
    if settings.jwt_secret is not None and len(settings.jwt_secret) < 32:
        weak = "it signs tokens with HS256, which needs at least 32 characters (RFC 7518, 3.2)"
        yield Problem(PREFIX + "JWT_SECRET", weak, f"export {PREFIX}JWT_SECRET=$(openssl rand -hex 32)")
    if settings.db_host and not settings.db_password:
        yield Problem(
            PREFIX + "DB_PASSWORD",
            f"{PREFIX}DB_HOST is set, and no password",
            f"export {PREFIX}DB_PASSWORD=…",
        )
    if settings.jwt_jwks_url and settings.jwt_jwks_file:
        both = f"{PREFIX}JWT_JWKS_FILE is set as well"
        yield Problem(PREFIX + "JWT_JWKS_URL", both, f"unset {PREFIX}JWT_JWKS_URL")
    if settings.jwt_jwks_file and not settings.jwt_jwks_file.is_file():
        missing = f"{settings.jwt_jwks_file} is not a file"
        yield Problem(PREFIX + "JWT_JWKS_FILE", missing, f"export {PREFIX}JWT_JWKS_FILE=jwks.json")
    for name in ("s3_access_key", "s3_secret_key"):
        if settings.s3_endpoint and not getattr(settings, name):
            variable = PREFIX + name.upper()
            yield Problem(variable, f"{PREFIX}S3_ENDPOINT is set, and this is not", f"export {variable}=…")
    if settings.executor == "dask" and not settings.dask_scheduler:
        yield Problem(
            PREFIX + "DASK_SCHEDULER",
            f"{PREFIX}EXECUTOR is dask, and no scheduler is named",
            f"export {PREFIX}DASK_SCHEDULER=tcp://127.0.0.1:8786",
        )
    yield from _tls_problems(settings)
    if settings.modules_dir is not None and not settings.modules_dir.is_dir():
        yield Problem(
            PREFIX + "MODULES_DIR",
            f"{settings.modules_dir} is not a directory",
            f"mkdir -p {settings.modules_dir}",
        )
    for root in settings.data_roots:
        if not root.path.is_dir():
            yield Problem(PREFIX + "DATA_ROOTS", f"{root.path} is not a directory", f"mkdir -p {root.path}")
    reason = _unusable(settings.state_dir)
    if reason is not None:
        yield Problem(PREFIX + "STATE_DIR", reason, f"export {PREFIX}STATE_DIR=.devkit")


def _tls_problems(settings: Settings) -> Iterable[Problem]:
    files = {"TLS_CERT": settings.tls_cert, "TLS_KEY": settings.tls_key}
    for name, path in files.items():
        if path is None and any(files.values()):
            yield Problem(PREFIX + name, "https needs the certificate and its key", f"export {PREFIX}{name}=…")
        elif path is not None and not path.is_file():
            yield Problem(PREFIX + name, f"{path} is not a file", "python -m devkit_api tls init")


def _unusable(folder: Path) -> str | None:
    """Why nothing can be kept in `folder`, which need not exist yet; or None."""
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            return f"{existing} is not a directory"
        return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written to"
    except OSError as exc:
        return f"it cannot be used ({os.strerror(exc.errno or 0)})"
