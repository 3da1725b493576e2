"""One PostgreSQL of the tests' own for the whole folder; each test has a database to itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.target import Target
from tests.support.postgres import external_postgres, new_database
from tests.support.process import DevkitProcess


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Not pytest's own directory: for root, PostgreSQL and modules are other users."""
    with tempfile.TemporaryDirectory(prefix="devkit-state-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[tuple[EmbeddedPostgres, int]]:
    """The server and its port."""
    with external_postgres(folder / "postgres") as found:
        yield found


@pytest.fixture
def database(postgres: tuple[EmbeddedPostgres, int]) -> dict[str, str]:
    """Settings of a new database whose owner is no superuser."""
    return new_database(*postgres)


@pytest.fixture
def target(database: dict[str, str]) -> Target:
    """The same for the store."""
    return target_of(database)


def target_of(database: dict[str, str]) -> Target:
    return Target(
        database["db_host"], int(database["db_port"]), database["db_name"], database["db_user"], database["db_password"]
    )


@contextmanager
def asking(target: Target) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Statements of the test's own, each its own transaction."""
    connection = psycopg2.connect(**target.owner())
    connection.autocommit = True

    def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    try:
        yield ask
    finally:
        connection.close()


@pytest.fixture
def ask(target: Target) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    with asking(target) as asked:
        yield asked


async def restart(postgres: tuple[EmbeddedPostgres, int]) -> None:
    """Every session ends; what was committed stays."""
    await postgres[0].stop()
    await start(postgres)


async def start(postgres: tuple[EmbeddedPostgres, int]) -> None:
    server, port = postgres
    await server.start({"listen_addresses": "127.0.0.1", "port": str(port)})


@pytest.fixture
def make_devkit(folder: Path, tmp_path: Path) -> Iterator[Callable[..., DevkitProcess]]:
    """Devkit processes of a test's own; `name` is the folder, which two of them may share."""
    made: list[DevkitProcess] = []

    def make(name: str = "devkit", modules: Path | None = None, **settings: Any) -> DevkitProcess:
        devkit = DevkitProcess(folder / tmp_path.name / name, modules, **settings)
        made.append(devkit)
        return devkit

    yield make
    for devkit in made:
        devkit.__exit__()
