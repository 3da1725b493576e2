"""One devkit process with a database for all tests of this folder that only read, and its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hla_compass import APIClient

from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.database.target import Target
from tests.support.modules import write_module
from tests.support.postgres import external_postgres, new_database
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, until

# A module that reads the only source of its data context.
SELECTOR = """
selection = self.context.data_selection
content = selection.load_source(input_data["source"], self.storage)
source = selection.source(input_data["source"])
return self.success(results={
    "text": content.decode(), "uri": selection.uri, "format": selection.format, "checksum": selection.checksum,
    "row_count": selection.row_count, "columns": list(selection.columns), "view_id": selection.view_id,
    "ids": list(selection.selected_ids), "id_column": selection.id_column, "source": dict(source),
    "names": [s["name"] for s in selection.sources],
    "manifest": dict(selection.load_manifest(self.storage)) if input_data.get("manifest") else None,
})
"""
# A module that reads with its run token.
ASKER = """
api = self.bind_catalog_id(input_data["catalog_id"])
peptides = api.get_peptides(filters={"hla_allele": "HLA-B*27:05", "version": input_data["version_id"]})
counted = api.data.sql.query("SELECT count(*) AS n FROM peptides WHERE length = %s", [9])
return self.success(results={"sequences": [p["sequence"] for p in peptides], "nonamers": counted["data"][0]["n"]})
"""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Not pytest's own directory: every pytest that starts closes that one to other users, and for root the embedded
    server is another user.
    """
    with tempfile.TemporaryDirectory(prefix="devkit-catalogs-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def catalog_devkit(folder: Path) -> Iterator[DevkitProcess]:
    """A running devkit with the demo catalog. Tests must leave it as it is."""
    write_module(folder / "modules" / "asker", ASKER)
    settings = {"catalogs": "on", "sql_max_rows": "20000", "sql_max_bytes": "1000000"}
    with DevkitProcess(folder / "shared", folder / "modules", **settings) as devkit:
        yield devkit


@pytest.fixture(scope="session")
def working_devkit(folder: Path) -> Iterator[DevkitProcess]:
    """A running devkit that tests may add catalogs to, each under keys of its own (`fresh_key`)."""
    write_module(folder / "working-modules" / "selector", SELECTOR)
    with DevkitProcess(folder / "working", folder / "working-modules", catalogs="on") as devkit:
        yield devkit


@pytest.fixture
def fresh_key() -> str:
    """A catalog key nobody else uses."""
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def bearer(working_devkit: DevkitProcess) -> str:
    """A token of the local user, as `python -m devkit_api token` prints it."""
    return command(working_devkit, "token").stdout.strip().splitlines()[-1]


@pytest.fixture
def ask(working_devkit: DevkitProcess) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Queries of the test's own against `working_devkit`."""
    yield from asking(EmbeddedPostgres(working_devkit.state / "postgres").target)


def command(devkit: DevkitProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m devkit_api …` beside the devkit."""
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments], env={**devkit.environment(), "COLUMNS": "200"},
        cwd=devkit.root, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def compass(devkit: DevkitProcess, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """`hla-compass …` as a process; with a bearer token instead of the key."""
    environment = devkit.sdk_environment()
    if token is not None:
        del environment["HLA_API_KEY"]
        environment["HLA_ACCESS_TOKEN"] = token
    program = str(Path(sys.executable).with_name("hla-compass"))
    return subprocess.run(
        [program, *arguments], env=environment, cwd=devkit.root, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip


def shown(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON a command printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def make_devkit(folder: Path) -> Iterator[Callable[..., DevkitProcess]]:
    """Devkit processes of a test's own."""
    made: list[DevkitProcess] = []

    def make(**settings: Any) -> DevkitProcess:
        devkit = DevkitProcess(folder / uuid.uuid4().hex[:8], **settings)
        made.append(devkit)
        return devkit

    yield make
    for devkit in made:
        devkit.__exit__()


@pytest.fixture(scope="session")
def target(catalog_devkit: DevkitProcess) -> Target:
    """The database behind `catalog_devkit`."""
    return EmbeddedPostgres(catalog_devkit.state / "postgres").target


@pytest.fixture
def independent(target: Target) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Queries of the test's own, as the owner: what answers are checked against."""
    yield from asking(target)


def asking(target: Target) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Queries on a database, as its owner."""
    connection = psycopg2.connect(**target.owner())
    connection.autocommit = True

    def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

    yield run
    connection.close()


def see(devkit: DevkitProcess, catalog: str, version: str) -> None:
    """Wait until the devkit sees a version that another process wrote: it looks for those once in a second."""
    until(lambda: devkit.request("GET", f"/v1/data/{catalog}/peptides?limit=1&version={version}").ok)


def sdk_client(devkit: DevkitProcess, config: Path, monkeypatch: pytest.MonkeyPatch, key: str = TEST_KEY) -> APIClient:
    """The real SDK's client of a devkit."""
    for name in [name for name in os.environ if name.startswith("HLA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HLA_API_ENDPOINT", devkit.endpoint)
    monkeypatch.setenv("HLA_API_KEY", key)
    monkeypatch.setenv("HLA_COMPASS_CONFIG_DIR", str(config))
    monkeypatch.setenv("HLA_RATE_LIMIT_MAX_REQUESTS", "100000")
    monkeypatch.setenv("HLA_CIRCUIT_THRESHOLD", "100000")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return APIClient()


@pytest.fixture
def sdk(catalog_devkit: DevkitProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    """The SDK as a user has it."""
    return sdk_client(catalog_devkit, tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def external_server(folder: Path) -> Iterator[tuple[EmbeddedPostgres, int]]:
    """A PostgreSQL with passwords over TCP on loopback and its port; one for all tests, each with its own database."""
    with external_postgres(folder / "external") as found:
        yield found


@pytest.fixture
def external(external_server: tuple[EmbeddedPostgres, int]) -> dict[str, str]:
    """Settings of a new database whose owner is no superuser."""
    return new_database(*external_server)
