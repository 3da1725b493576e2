"""The database's life: the embedded server or the external one, migrated and seeded, then the pools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg2
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from devkit_api.catalogs.seed import seed
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.migrate import migrate
from devkit_api.database.pool import Database, make_database
from devkit_api.database.target import Target
from devkit_api.settings import PREFIX, Problem, Settings, SettingsError

log = logging.getLogger(__name__)

_REACH_SECONDS = 20.0
# What a server that has started says of who and what it does not know (libpq gives no SQLSTATE for it).
_REFUSALS = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "not permitted to log in")
_STATEMENT_SECONDS = 30.0


def build_database(settings: Settings) -> tuple[Database, EmbeddedPostgres | None]:
    """The pools for these settings, and the server to run for them; nothing is started yet."""
    embedded = None if settings.db_host else EmbeddedPostgres(settings.state_dir / "postgres")
    target = embedded.target if embedded else external_target(settings)
    return make_database(target, settings.db_pool_size, _STATEMENT_SECONDS), embedded


def external_target(settings: Settings) -> Target:
    """The server named by `DEVKIT_DB_*`."""
    assert settings.db_host is not None  # noqa: S101  the caller looked
    return Target(settings.db_host, settings.db_port, settings.db_name, settings.db_user, settings.db_password)


@asynccontextmanager
async def running(database: Database, embedded: EmbeddedPostgres | None) -> AsyncIterator[None]:
    """Started, migrated, seeded and connected; closed in reverse."""
    if embedded is not None:
        await embedded.start()
    try:
        await prepare(database.target)
        await database.open()
        try:
            yield
        finally:
            await database.close()
    finally:
        if embedded is not None:
            await embedded.stop()


async def prepare(target: Target) -> None:
    """Migrate and seed. A server that is only starting is waited for; one that refuses us is a wrong setting."""
    attempts = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(_REACH_SECONDS),
        wait=wait_random_exponential(0.1, max=2),
        reraise=True,
    )
    try:
        async for attempt in attempts:
            with attempt:
                await asyncio.to_thread(_migrate_and_seed, target)
    except psycopg2.Error as exc:
        log.debug("the database cannot be prepared", exc_info=exc)
        reason = f"the database {target.name} at {target.host}:{target.port} cannot be prepared ({_why(exc)})"
        fix = f"check {PREFIX}DB_HOST, _PORT, _NAME, _USER and _PASSWORD, or unset {PREFIX}DB_HOST for the embedded one"
        raise SettingsError([Problem(f"{PREFIX}DB_HOST", reason, fix)]) from exc


def _may_pass(exc: BaseException) -> bool:
    """Whether the server may only be starting. What it says when it knows us not, it will say again."""
    return isinstance(exc, psycopg2.OperationalError) and not any(text in str(exc) for text in _REFUSALS)


def _migrate_and_seed(target: Target) -> None:
    applied = migrate(target)
    seeded = seed(target)
    if applied or seeded:
        log.info("database ready", extra={"migrations": applied, "seeded": seeded})


def _why(exc: psycopg2.Error) -> str:
    """The first line of what the server said."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
