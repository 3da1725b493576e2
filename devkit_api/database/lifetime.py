"""The database's life: the embedded server or the external one, migrated and seeded, then the pools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg2
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from devkit_api.catalogs.seed import seed
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.failures import first_line
from devkit_api.database.migrate import migrate
from devkit_api.database.pools import Database, make_database
from devkit_api.database.target import Target
from devkit_api.settings import PREFIX, Problem, Settings, SettingsError

log = logging.getLogger(__name__)
T = TypeVar("T")

_REACH_SECONDS = 20.0
# What a server that has started says of who and what it does not know (libpq gives no SQLSTATE for it).
_REFUSALS = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "not permitted to log in")
_STATEMENT_SECONDS = 30.0


def embedded_server(settings: Settings) -> EmbeddedPostgres | None:
    """The server to run for these settings, or None: another one is named, or nothing is kept in any."""
    is_needed = settings.catalogs or settings.state_backend == "postgres"
    return EmbeddedPostgres(settings.state_dir / "postgres") if is_needed and not settings.db_host else None


def target_of(settings: Settings, embedded: EmbeddedPostgres | None) -> Target:
    """Where the database is."""
    return embedded.target if embedded else external_target(settings)


def build_database(settings: Settings, target: Target) -> Database:
    """The pools for catalogs; nothing is opened yet."""
    return make_database(target, settings.db_pool_size, _STATEMENT_SECONDS)


def external_target(settings: Settings) -> Target:
    """The server named by `DEVKIT_DB_*`."""
    assert settings.db_host is not None  # noqa: S101  the caller looked
    return Target(settings.db_host, settings.db_port, settings.db_name, settings.db_user, settings.db_password)


@asynccontextmanager
async def running(embedded: EmbeddedPostgres | None) -> AsyncIterator[None]:
    """The embedded server, if it is one, from start to stop."""
    if embedded is None:
        yield
        return
    await embedded.start()
    try:
        yield
    finally:
        await embedded.stop()


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[None]:
    """Migrated, seeded and connected; closed in the end."""
    await prepare(database.target)
    await database.open()
    try:
        yield
    finally:
        await database.close()


async def prepare(target: Target) -> None:
    """Migrate and seed."""
    await reached(target, lambda: asyncio.to_thread(_migrate_and_seed, target))


async def reached(target: Target, work: Callable[[], Awaitable[T]]) -> T:
    """`work`, once there is a server. One that is only starting is waited for; one that refuses us is a wrong setting.

    Raises `SettingsError`.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(_REACH_SECONDS),
        wait=wait_random_exponential(0.1, max=2),
        reraise=True,
    )
    try:
        return await attempts(_awaited, work)
    except (psycopg2.Error, TimeoutError) as exc:
        log.debug("the database cannot be prepared", exc_info=exc)
        reason = f"the database {target.name} at {target.host}:{target.port} cannot be prepared ({first_line(exc)})"
        fix = f"check {PREFIX}DB_HOST, _PORT, _NAME, _USER and _PASSWORD, or unset {PREFIX}DB_HOST for the embedded one"
        raise SettingsError([Problem(f"{PREFIX}DB_HOST", reason, fix)]) from exc


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _may_pass(exc: BaseException) -> bool:
    """Whether the server may only be starting. What it says when it knows us not, it will say again."""
    if isinstance(exc, TimeoutError):
        return True
    return isinstance(exc, psycopg2.OperationalError) and not any(text in str(exc) for text in _REFUSALS)


def _migrate_and_seed(target: Target) -> None:
    applied = migrate(target)
    seeded = seed(target)
    if applied or seeded:
        log.info("database ready", extra={"migrations": applied, "seeded": seeded})
