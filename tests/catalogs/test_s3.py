"""Catalogs of a devkit whose objects are in S3 (a moto server): the same commands, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.s3 import S3ObjectStore
from tests.catalogs.conftest import SELECTOR, command, compass, shown
from tests.catalogs.test_control_plane import MORE, Plane
from tests.objects.conftest import finish, s3_endpoint
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.s3 import load_s3, s3_settings

__all__ = ["s3_endpoint"]  # a fixture
pytestmark = pytest.mark.process

Stored = Callable[[], set[str]]
# Over one part of 8 MiB, so that the file is joined from several.
ROWS = 170_000


@pytest.fixture(scope="module")
def bucket() -> str:
    return f"devkit-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def devkit(folder: Path, s3_endpoint: str, bucket: str) -> Iterator[DevkitProcess]:
    write_module(folder / "s3-modules" / "selector", SELECTOR)
    settings = {"catalogs": "on", **s3_settings(s3_endpoint, bucket)}
    with DevkitProcess(folder / "s3", folder / "s3-modules", **settings) as running:
        yield running


@pytest.fixture
def plane(devkit: DevkitProcess) -> Plane:
    return Plane(devkit, command(devkit, "token").stdout.strip().splitlines()[-1])


@pytest.fixture
def stored(s3_endpoint: str, bucket: str, tmp_path: Path) -> Stored:
    """Names of the import files in the bucket, looked at past the devkit."""

    async def look() -> set[str]:
        store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / "state"), tmp_path / "spool")
        await store.open()
        found, more = await store.list(CATALOG_IMPORTS)
        await store.close()
        assert more is None
        return {info.name for info in found}

    return lambda: asyncio.run(look())


def _ask(devkit: DevkitProcess, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(**EmbeddedPostgres(devkit.state / "postgres").target.owner())
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()
    finally:
        connection.close()


def test_a_file_in_parts_goes_through_s3_into_a_version(
    devkit: DevkitProcess, plane: Plane, fresh_key: str, stored: Stored, tmp_path: Path
) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    letters = "ACDEFGHIKLMNPQRSTVWY"
    file = tmp_path / "rows.csv"
    with file.open("w") as text:
        text.write("sample,peptide,intensity,accession\n")
        for number in range(ROWS):
            tail = "".join(letters[number // 20**place % 20] for place in range(5))
            text.write(f"S{number % 7},GILGFVFTL{tail},{number}.25,P{number % 997:05d}-{'A' * 20}\n")
    token = plane.token
    done = compass(
        devkit, "data", "catalog", "import", str(file), "--catalog-id", catalog, "--table", "sample_peptide_mappings",
        token=token,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_rows_of_a_view_are_frozen_and_exported_through_s3(devkit: DevkitProcess, plane: Plane) -> None:
    demo = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
    sql = "SELECT sequence FROM peptides WHERE length = 9 ORDER BY 1 LIMIT 2"
    made = plane.ok("POST", "/v1/data-views", {"name": "Two", "sql": sql, "catalogId": demo})
    exported = plane.ok("POST", f"/v1/data-views/{made['id']}/export", {"format": "CSV"})["downloadUrl"]
    context = {"type": "data_view", "viewId": made["id"]}
    run = finish(devkit, "selector", {"source": "selection"}, dataContext=context)
    answer = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
    text = answer["data"]["results"]["text"]
    assert text == requests.get(exported, timeout=30).text
    assert len(text.split()) == 3
