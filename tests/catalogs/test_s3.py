"""Catalogs of a devkit whose objects are in S3 (a moto server): the same commands, and nothing left behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from devkit_api.catalogs.control.uploads import PART_BYTES
from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.objects.namespaces import CATALOG_IMPORTS
from devkit_api.objects.s3 import S3ObjectStore
from devkit_api.settings import Settings
from tests.catalogs.conftest import SELECTOR, command, compass, shown
from tests.catalogs.test_control_plane import MORE, Plane
from tests.objects.conftest import finish, s3_endpoint
from tests.objects.test_stores import put
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.s3 import load_s3, s3_settings
from tests.support.waiting import PATIENCE, until

__all__ = ["s3_endpoint"]  # a fixture
pytestmark = pytest.mark.process

Stored = Callable[[], set[str]]
# A kilobyte each: more than one part of 8 MiB.
ROWS = 9_000
THEIRS = "00000000-1111-4222-8333-444444444444/theirs.csv"


@pytest.fixture(scope="module")
def bucket() -> str:
    return f"devkit-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def devkit(folder: Path, s3_endpoint: str, bucket: str) -> Iterator[DevkitProcess]:
    write_module(folder / "s3-modules" / "selector", SELECTOR)
    settings = {"catalogs": "on", **s3_settings(s3_endpoint, bucket)}
    with DevkitProcess(folder / "s3", folder / "s3-modules", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def token(devkit: DevkitProcess) -> str:
    return command(devkit, "token").stdout.strip().splitlines()[-1]


@pytest.fixture
def stored(s3_endpoint: str, bucket: str, tmp_path: Path) -> Stored:
    """Names of the import files in the bucket, looked at past the devkit."""

    async def look() -> set[str]:
        store = S3ObjectStore(load_s3(s3_endpoint, bucket, tmp_path / "state"), tmp_path / "state")
        await store.open()
        found, more = await store.list(CATALOG_IMPORTS)
        await store.close()
        assert more is None
        return {info.name for info in found}

    return lambda: asyncio.run(look())


async def _put_theirs(settings: Settings, state: Path) -> None:
    """A file to import that another devkit put into the bucket."""
    theirs = S3ObjectStore(settings, state)
    await theirs.open()
    await put(theirs, THEIRS, MORE.encode(), CATALOG_IMPORTS)
    await theirs.close()


def _ask(devkit: DevkitProcess, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(**EmbeddedPostgres(devkit.state / "postgres").target.owner())
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()
    finally:
        connection.close()


def _upload(devkit: DevkitProcess, token: str, catalog: str, file: Path) -> dict[str, Any]:
    arguments = ("data", "ingestion", "upload", catalog, str(file), "--idempotency-key", file.name, "--yes")
    return dict(shown(compass(devkit, *arguments, token=token)))


def test_a_file_in_parts_goes_through_s3_into_a_version_and_old_files_go(
    devkit: DevkitProcess, token: str, fresh_key: str, stored: Stored, tmp_path: Path, s3_endpoint: str, bucket: str
) -> None:
    plane = Plane(devkit, token)
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    file, small, waiting = (tmp_path / name for name in ("rows.csv", "small.csv", "waiting.csv"))
    letters = "ACDEFGHIKLMNPQRSTVWY"
    with file.open("w") as text:
        text.write("sample,peptide,intensity,note\n")
        for number in range(ROWS):
            tail = "".join(letters[number // 20**place % 20] for place in range(4))
            text.write(f"S{number % 7},GILGF{tail},{number}.25,{'x' * 1000}\n")
    for other in (small, waiting):
        other.write_text(MORE)
    sent = _upload(devkit, token, catalog, file)
    assert file.stat().st_size > PART_BYTES
    # The parts go when the whole is there; whoever asks for the state hears of that a moment earlier.
    until(lambda: stored() == {f"{sent['uploadId']}/rows.csv"})
    submit = ("data", "ingestion", "submit", catalog, "--idempotency-key", "job", "--yes")
    job = shown(compass(devkit, *submit, "--source", f"{sent['uploadId']}:sample_peptide_mappings", token=token))
    ended = plane.ended(catalog, job["jobId"])
    assert ended["status"] == "completed", ended
    counted = _ask(
        devkit,
        "SELECT count(*), sum(normalized_intensity) FROM observation.sample_peptide_mappings WHERE segment = ANY("
        "(SELECT segments FROM devkit.catalog_versions WHERE version_id = %s)::int[])",
        ended["catalogVersionId"],
    )
    assert counted == [(ROWS, sum(number + 0.25 for number in range(ROWS)))]

    # A week later: the file of a job that may be tried again stays, the others go.
    unused, retried = (_upload(devkit, token, catalog, other) for other in (small, waiting))
    failed = plane.ok(
        "POST", f"/v1/data-catalogs/{catalog}/ingest",
        {"sourceManifest": [{"sourceUri": retried["s3Uri"], "targetTable": "sample_peptide_mappings"}],
         "mode": "append", "idempotencyKey": "again"},
    )  # fmt: skip
    plane.ended(catalog, failed["jobId"])
    _ask(
        devkit,
        "UPDATE devkit.ingestions SET status = 'failed', retryable = true, version_id = NULL WHERE job_id = %s"
        " RETURNING 1",
        failed["jobId"],
    )
    _ask(devkit, "UPDATE devkit.catalog_uploads SET updated_at = updated_at - interval '8 days' RETURNING 1")
    until(lambda: not any("/part-" in name for name in stored()))  # a stop would leave them where they are
    assert devkit.stop() == 0
    asyncio.run(_put_theirs(load_s3(s3_endpoint, bucket, tmp_path / "theirs"), tmp_path / "theirs"))
    devkit.start()
    # The sweep goes on while the devkit answers. What another devkit put in the bucket stays.
    until(lambda: stored() == {f"{retried['uploadId']}/waiting.csv", THEIRS})
    states = {
        upload["uploadId"]: plane.ok("GET", f"/v1/catalogs/{catalog}/uploads/{upload['uploadId']}")["status"]
        for upload in (sent, unused, retried)
    }
    assert list(states.values()) == ["expired", "expired", "claimed"]
    body = {"sourceManifest": [{"sourceUri": unused["s3Uri"], "targetTable": "sample_peptide_mappings"}]}
    late = plane("POST", f"/v1/data-catalogs/{catalog}/ingest", {**body, "mode": "append", "idempotencyKey": "late"})
    assert (late.status_code, late.json()["error"]["code"]) == (422, "CATALOG_INGESTION_INVALID")
    assert "expired" in late.json()["error"]["message"]


def test_rows_of_a_view_are_frozen_and_exported_through_s3_and_a_reset_removes_what_is_ours(
    devkit: DevkitProcess, token: str, stored: Stored, s3_endpoint: str, bucket: str, tmp_path: Path
) -> None:
    plane = Plane(devkit, token)
    demo = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
    sql = "SELECT sequence FROM peptides WHERE length = 9 ORDER BY 1 LIMIT 2"
    made = plane.ok("POST", "/v1/data-views", {"name": "Two", "sql": sql, "catalogId": demo})
    exported = plane.ok("POST", f"/v1/data-views/{made['id']}/export", {"format": "CSV"})["downloadUrl"]
    context = {"type": "data_view", "viewId": made["id"]}
    run = finish(devkit, "selector", {"source": "selection"}, dataContext=context)
    answer = devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
    text = answer["data"]["results"]["text"]
    assert text == requests.get(exported, timeout=PATIENCE).text
    assert len(text.split()) == 3

    asyncio.run(_put_theirs(load_s3(s3_endpoint, bucket, tmp_path / "theirs"), tmp_path / "theirs"))
    plane.ok("POST", "/v1/devkit/reset")
    assert stored() == {THEIRS}
    assert not requests.get(exported, timeout=PATIENCE).ok
