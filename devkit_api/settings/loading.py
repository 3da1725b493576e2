"""From the environment to `Settings`: every value parsed, then those checked that only fit together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devkit_api.settings.declare import PREFIX
from devkit_api.settings.model import Settings, setting_infos
from devkit_api.settings.problems import Problem, SettingsError

# What a name from elsewhere asks for has another name here. To go on without it would be to isolate less than asked.
_ELSEWHERE = {
    "SANDBOX": Problem(
        PREFIX + "SANDBOX",
        "runs are isolated by namespaces of the devkit's own, without bubblewrap, and the setting is "
        f"{PREFIX}ISOLATION (auto, namespaces or process)",
        f"unset {PREFIX}SANDBOX; export {PREFIX}ISOLATION=namespaces",
    ),
}


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
    problems += [problem for name, problem in _ELSEWHERE.items() if environ.get(PREFIX + name)]
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
    if settings.jwt_jwks_url and settings.jwt_jwks_file:
        both = f"{PREFIX}JWT_JWKS_FILE is set as well"
        yield Problem(PREFIX + "JWT_JWKS_URL", both, f"unset {PREFIX}JWT_JWKS_URL")
    if settings.jwt_jwks_file and not settings.jwt_jwks_file.is_file():
        missing = f"{settings.jwt_jwks_file} is not a file"
        yield Problem(PREFIX + "JWT_JWKS_FILE", missing, f"export {PREFIX}JWT_JWKS_FILE=jwks.json")
    yield from _storage_problems(settings)
    if settings.executor == "dask":
        yield from _dask_problems(settings)
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


def _storage_problems(settings: Settings) -> Iterable[Problem]:
    if settings.db_host and not settings.db_password:
        yield Problem(
            PREFIX + "DB_PASSWORD",
            f"{PREFIX}DB_HOST is set, and no password",
            f"export {PREFIX}DB_PASSWORD=…",
        )
    if settings.standby and not (settings.state_backend == "postgres" and settings.db_host):
        yield Problem(
            PREFIX + "STANDBY",
            f"only devkits that share their state can stand by: {PREFIX}STATE_BACKEND=postgres with a {PREFIX}DB_HOST",
            f"unset {PREFIX}STANDBY, or export {PREFIX}STATE_BACKEND=postgres {PREFIX}DB_HOST=…",
        )
    for name in ("s3_access_key", "s3_secret_key"):
        if settings.s3_endpoint and not getattr(settings, name):
            variable = PREFIX + name.upper()
            yield Problem(variable, f"{PREFIX}S3_ENDPOINT is set, and this is not", f"export {variable}=…")


def _dask_problems(settings: Settings) -> Iterable[Problem]:
    if settings.dask_scheduler is None:
        yield Problem(
            PREFIX + "DASK_SCHEDULER",
            f"{PREFIX}EXECUTOR is dask, and no scheduler is named",
            f"export {PREFIX}DASK_SCHEDULER=tcp://127.0.0.1:8786",
        )
    elif _is_this_machine(settings.public_url or settings.own_url) and not _is_this_machine(settings.dask_scheduler):
        yield Problem(
            PREFIX + "PUBLIC_URL",
            f"the workers of {settings.dask_scheduler} are told to call the devkit there, and would call themselves",
            f"export {PREFIX}PUBLIC_URL=http://the-name-or-address-of-this-machine:{settings.port} "
            f"{PREFIX}HOST=0.0.0.0, or the address of its proxy",
        )
    elif (
        settings.s3_endpoint
        and _is_this_machine(settings.s3_endpoint)
        and not _is_this_machine(settings.dask_scheduler)
    ):
        yield Problem(
            PREFIX + "S3_ENDPOINT",
            f"modules on the workers of {settings.dask_scheduler} are sent there for files, and would ask themselves",
            f"export {PREFIX}S3_ENDPOINT=http://the-name-or-address-of-its-machine:9000",
        )
    elsewhere = "runs execute on the workers of the cluster, where this has no meaning"
    for name in ("prewarm", "keep_workdirs"):
        if getattr(settings, name):
            yield Problem(PREFIX + name.upper(), elsewhere, f"unset {PREFIX}{name.upper()}")


def _is_this_machine(address: str) -> bool:
    """Whether the address leads whoever uses it to himself."""
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


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
