"""Catalogs made, filled and deleted over HTTP, by the real SDK's commands and by hand."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
from hla_compass import APIClient

from devkit_api.catalogs.ids import DEMO_CATALOG, DEMO_PROVIDER, catalog_id
from devkit_api.database.embedded import EmbeddedPostgres
from tests.catalogs.conftest import command, compass, sdk_client, shown
from tests.support.client import below
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]
DEMO = str(catalog_id(DEMO_PROVIDER, DEMO_CATALOG))
SAMPLES = "sample,tissue,disease,alleles\nT1,lung,melanoma;asthma,A*02:01 B*07:02\nT2,skin,,hla-a0301\n"
ROWS = (
    "sample\tpeptide\tintensity\tq_value\taccession\tstart\n"
    "T1\tGILGFVFTL\t10.5\t0.01\tP03485\t58\nT1\tNLVPMVATV\t3\t\tP06725\t495\nT2\tGILGFVFTL\t7\t0.02\tP03485\t58\n"
)
MORE = "sample,peptide,intensity\nT2,NLVPMVATV,4\nT2,KLGGALQAK,1e3\n"


class Plane:
    """Requests with the bearer token."""

    def __init__(self, devkit: DevkitProcess, token: str) -> None:
        self._devkit, self._token = devkit, token

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token}"}
        return self._devkit.request(method, path, key=None, headers=headers, json=body, **options)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = self(method, path, body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = self(method, path, body)
        return answer.status_code, answer.json()["error"]["code"]

    def create(self, key: str, **fields: Any) -> str:
        body = {
            "providerKey": "lab", "catalogKey": key, "schemaName": "observation", "label": "A label",
            "sourceTables": ["samples", "sample_peptide_mappings", "peptides"], **fields,
        }  # fmt: skip
        made: str = self.ok("POST", "/v1/data-catalogs", body)["id"]
        return made

    def upload(self, catalog: str, content: str, name: str = "rows.csv", key: str = "u1") -> dict[str, Any]:
        """A claimed upload, as the SDK sends one."""
        data = content.encode()
        digest = hashlib.sha256(data)
        body = {
            "filename": name, "declaredSizeBytes": len(data), "declaredSHA256": digest.hexdigest(),
            "idempotencyKey": key,
        }  # fmt: skip
        begun = self.ok("POST", f"/v1/catalogs/{catalog}/uploads", body)
        place = f"/v1/catalogs/{catalog}/uploads/{begun['uploadId']}"
        part = {"partNumber": 1, "checksumSHA256": base64.b64encode(digest.digest()).decode()}
        signed = self.ok("POST", place + "/parts", {"parts": [part]})["parts"][0]
        put = requests.put(
            signed["uploadUrl"], data=data, headers={"x-amz-checksum-sha256": part["checksumSHA256"]}, timeout=PATIENCE
        )
        assert put.status_code == 200, put.text
        done = {"stateVersion": begun["stateVersion"], "parts": [{**part, "etag": put.headers["ETag"]}]}
        self.ok("POST", place + "/complete", done)
        claimed = self.verified(place)
        assert claimed["status"] == "claimed", claimed
        return claimed

    def verified(self, place: str) -> dict[str, Any]:
        """The upload once it has been looked at: a completion answers before that when it takes long."""
        return until(lambda: self._verified(place))

    def _verified(self, place: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.ok("GET", place)
        return None if found["status"] == "verifying" else found

    def ended(self, catalog: str, job: str) -> dict[str, Any]:
        """The job once it has ended."""
        return until(lambda: self._ended(f"/v1/data-catalogs/{catalog}/ingestions/{job}"))

    def _ended(self, path: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.ok("GET", path)
        return None if found["status"] in {"queued", "running"} else found

    def ingest(self, catalog: str, uploads: dict[str, dict[str, Any]], key: str, **fields: Any) -> dict[str, Any]:
        sources = [{"sourceUri": upload["s3Uri"], "targetTable": table} for table, upload in uploads.items()]
        body = {"sourceManifest": sources, "idempotencyKey": key, **fields}
        return self.ended(catalog, self.ok("POST", f"/v1/data-catalogs/{catalog}/ingest", body)["jobId"])


@pytest.fixture
def plane(working_devkit: DevkitProcess, bearer: str) -> Plane:
    return Plane(working_devkit, bearer)


def _rows(ask: Ask, version: str) -> list[tuple[Any, ...]]:
    """What a version holds, by SQL of the test's own."""
    return ask(
        "SELECT s.sample_name, p.sequence, m.normalized_intensity, m.q_value FROM observation.sample_peptide_mappings m"
        " JOIN observation.samples s USING (sample_id) JOIN vocabulary.peptides p USING (peptide_id)"
        " WHERE m.segment = ANY((SELECT segments FROM devkit.catalog_versions WHERE version_id = %s)::int[])"
        " ORDER BY 1, 2",
        version,
    )


def test_the_commands_of_the_sdk_take_a_catalog_from_nothing_to_two_versions(
    working_devkit: DevkitProcess, bearer: str, ask: Ask, fresh_key: str, tmp_path: Path, monkeypatch: Any
) -> None:
    def run(*arguments: str) -> Any:
        return shown(compass(working_devkit, "data", *arguments, token=bearer))

    tables = ("--source-table", "samples", "--source-table", "sample_peptide_mappings", "--source-table", "peptides")
    writable = ("--ingestion-table", "samples", "--ingestion-table", "sample_peptide_mappings")
    made = run(
        "catalog", "create", "--provider-key", "lab", "--catalog-key", fresh_key, "--schema-name", "observation",
        "--label", "Melanoma", *tables, *writable, "--yes",
    )  # fmt: skip
    catalog = made["id"]
    assert made["ingestionTables"] == ["samples", "sample_peptide_mappings"]
    assert run("catalog", "update", catalog, "--description", "Two donors", "--yes")["description"] == "Two donors"
    for name, content in (("samples.csv", SAMPLES), ("rows.tsv", ROWS), ("more.csv", MORE)):
        (tmp_path / name).write_text(content)

    def upload(name: str) -> str:
        sent = run("ingestion", "upload", catalog, str(tmp_path / name), "--idempotency-key", f"key-{name}", "--yes")
        assert sent["status"] == "claimed"
        return str(sent["uploadId"])

    sources = (
        "--source",
        f"{upload('samples.csv')}:samples",
        "--source",
        f"{upload('rows.tsv')}:sample_peptide_mappings",
    )
    job = run("ingestion", "submit", catalog, *sources, "--idempotency-key", "first", "--version-label", "v1", "--yes")
    assert job["outcome"] == "created"
    again = run(
        "ingestion", "submit", catalog, *sources, "--idempotency-key", "first", "--version-label", "v1", "--yes"
    )
    assert (again["jobId"], again["outcome"]) == (job["jobId"], "replayed")
    first = Plane(working_devkit, bearer).ended(catalog, job["jobId"])
    assert run("ingestion", "status", catalog, job["jobId"]) == first
    assert first["status"] == "completed"
    assert _rows(ask, first["catalogVersionId"]) == [
        ("T1", "GILGFVFTL", 10.5, 0.01), ("T1", "NLVPMVATV", 3.0, None), ("T2", "GILGFVFTL", 7.0, 0.02),
    ]  # fmt: skip

    source = ("--source", f"{upload('more.csv')}:sample_peptide_mappings", "--append")
    job = run("ingestion", "submit", catalog, *source, "--idempotency-key", "second", "--version-label", "v2", "--yes")
    second = Plane(working_devkit, bearer).ended(catalog, job["jobId"])
    assert second["status"] == "completed", second
    assert len(_rows(ask, second["catalogVersionId"])) == 5
    versions = run("catalog", "versions", catalog)
    assert [(v["versionLabel"], v["mode"], v["rowCounts"]["peptides"]) for v in versions] == [
        ("v2", "append", 3), ("v1", "replace", 2),
    ]  # fmt: skip
    assert versions[0]["parentVersionId"] == versions[1]["id"] == first["catalogVersionId"]
    assert run("catalog", "show", catalog)["currentVersion"]["id"] == second["catalogVersionId"]

    api = sdk_client(working_devkit, tmp_path / "sdk", monkeypatch).for_catalog_id(catalog)
    assert {p["sequence"] for p in api.get_peptides(filters={"version": "v1"})} == {"GILGFVFTL", "NLVPMVATV"}
    assert [s["name"] for s in api.get_samples(filters={"hla_allele": "HLA-A*02:01"})] == ["T1"]
    assert [s["condition"] for s in api.get_samples(filters={"organ": "lung"})] == ["asthma, melanoma"]
    counted = api.data.sql.query("SELECT count(*) AS n FROM sample_peptide_mappings", version="v2")
    assert counted["data"] == [{"n": 5}]

    assert run("catalog", "delete", catalog, "--yes")["status"] == "deleted"
    gone = compass(working_devkit, "data", "catalog", "show", catalog, token=bearer)
    assert gone.returncode != 0
    assert "no active data catalog" in gone.stdout + gone.stderr


def test_api_keys_and_lesser_roles_are_refused(working_devkit: DevkitProcess, plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key)
    paths = [
        ("POST", "/v1/data-catalogs"), ("PATCH", f"/v1/data-catalogs/{catalog}"),
        ("DELETE", f"/v1/data-catalogs/{catalog}"), ("POST", f"/v1/catalogs/{catalog}/uploads"),
        ("POST", f"/v1/data-catalogs/{catalog}/ingest"), ("POST", "/v1/data-views"),
    ]  # fmt: skip
    token = command(working_devkit, "token", "--role", "developer").stdout.strip().splitlines()[-1]
    developer = Plane(working_devkit, token)
    for method, path in paths:
        answer = working_devkit.request(method, path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN"), path
        assert "bearer" in answer.json()["error"]["message"]
        if path != "/v1/data-views":
            assert developer.refused(method, path, {}) == (403, "FORBIDDEN")
    assert developer.ok("GET", f"/v1/data-catalogs/{catalog}")["id"] == catalog


def test_catalogs_are_created_once_patched_and_freed_by_deletion(plane: Plane, fresh_key: str, ask: Ask) -> None:
    writable = ["sample_peptide_mappings"]
    catalog = plane.create(fresh_key, description="first", ingestionTables=writable)
    body = {
        "providerKey": "lab", "catalogKey": fresh_key, "schemaName": "observation", "label": "x",
        "sourceTables": ["samples"],
    }  # fmt: skip
    assert plane.refused("POST", "/v1/data-catalogs", body) == (409, "CATALOG_EXISTS")
    assert plane.ok("PATCH", f"/v1/data-catalogs/{catalog}", {"description": None})["description"] == ""
    assert plane.ok("PATCH", f"/v1/data-catalogs/{catalog}", {"label": "B"})["label"] == "B"
    assert plane.refused("PATCH", f"/v1/data-catalogs/{catalog}", {}) == (422, "REQUEST_INVALID")
    plane.ingest(catalog, {"sample_peptide_mappings": plane.upload(catalog, MORE)}, "k")
    plane.ok("DELETE", f"/v1/data-catalogs/{catalog}")
    assert plane.refused("DELETE", f"/v1/data-catalogs/{catalog}") == (404, "CATALOG_NOT_FOUND")
    listed = plane.ok("GET", "/v1/data-catalogs")["catalogs"]
    assert catalog not in {c["id"] for c in listed}
    assert plane.create(fresh_key) == catalog
    assert plane.ok("GET", f"/v1/data-catalogs/{catalog}/versions") == {"items": []}
    assert ask("SELECT count(*) FROM devkit.catalog_uploads WHERE catalog_id = %s", catalog) == [(0,)]


def test_the_demo_catalog_cannot_be_changed(plane: Plane) -> None:
    for method, body in (("PATCH", {"label": "x"}), ("DELETE", None)):
        assert plane.refused(method, f"/v1/data-catalogs/{DEMO}", body) == (409, "CATALOG_READ_ONLY")
    body = {"filename": "a.csv", "declaredSizeBytes": 1, "declaredSHA256": "0" * 64, "idempotencyKey": "k"}
    assert plane.refused("POST", f"/v1/catalogs/{DEMO}/uploads", body) == (409, "CATALOG_READ_ONLY")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"catalogKey": "UPPER"}, 422), ({"schemaName": "public"}, 422), ({"sourceTables": ["users"]}, 422),
        ({"sourceTables": []}, 422), ({"ingestionTables": ["proteins"]}, 422), ({"label": " x "}, 422),
        ({"ingestionTables": ["sample_diseases"]}, 422), ({"more": 1}, 422), ({"providerKey": "a/b"}, 422),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_catalogs_are_told(plane: Plane, fresh_key: str, change: dict[str, Any], status: int) -> None:
    body = {
        "providerKey": "lab", "catalogKey": fresh_key, "schemaName": "observation", "label": "x",
        "sourceTables": ["samples"], **change,
    }  # fmt: skip
    assert plane.refused("POST", "/v1/data-catalogs", body) == (status, "REQUEST_INVALID")


def test_uploads_replay_their_key_and_hold_to_their_plan(plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key)
    base = f"/v1/catalogs/{catalog}/uploads"
    data = b"x" * (9 * 1024 * 1024)  # two parts
    body = {
        "filename": "big.csv", "declaredSizeBytes": len(data), "declaredSHA256": hashlib.sha256(data).hexdigest(),
        "idempotencyKey": "k",
    }  # fmt: skip
    begun = plane.ok("POST", base, body)
    assert begun["partSigning"]["partCount"] == 2
    assert plane.ok("POST", base, body) == begun
    assert plane.refused("POST", base, {**body, "filename": "c.csv"}) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert (
        plane.refused("POST", base, {**body, "idempotencyKey": "x", "filename": "c.exe"})[1] == "CATALOG_UPLOAD_INVALID"
    )
    place = f"{base}/{begun['uploadId']}"
    parts = [data[: 8 * 1024 * 1024], data[8 * 1024 * 1024 :]]
    wanted = [
        {"partNumber": n, "checksumSHA256": base64.b64encode(hashlib.sha256(part).digest()).decode()}
        for n, part in enumerate(parts, start=1)
    ]
    assert plane.refused("POST", place + "/parts", {"parts": [{**wanted[0], "partNumber": 3}]})[0] == 422
    signed = plane.ok("POST", place + "/parts", {"parts": wanted})["parts"]
    assert [part["sizeBytes"] for part in signed] == [len(part) for part in parts]
    done = [
        {**one, "etag": requests.put(put["uploadUrl"], data=part, timeout=PATIENCE).headers["ETag"]}
        for one, put, part in zip(wanted, signed, parts, strict=True)
    ]
    assert requests.put(signed[0]["uploadUrl"], data=parts[0][:-1] + b"y", timeout=PATIENCE).status_code == 422
    assert (
        requests.put(
            signed[0]["uploadUrl"].replace("part-000001", "part-000002"), data=b"x", timeout=PATIENCE
        ).status_code
        == 403
    )
    complete = place + "/complete"
    assert plane.refused("POST", complete, {"stateVersion": 0, "parts": done[:1]})[1] == "CATALOG_UPLOAD_INVALID"
    wrong = [{**done[0], "etag": '"0"'}, done[1]]
    assert plane.refused("POST", complete, {"stateVersion": 0, "parts": wrong})[1] == "CATALOG_UPLOAD_INVALID"
    assert plane.refused("POST", complete, {"stateVersion": 7, "parts": done}) == (409, "STATE_CONFLICT")
    plane.ok("POST", complete, {"stateVersion": 0, "parts": done})
    claimed = plane.verified(place)
    assert claimed["status"] == "claimed"
    assert claimed["s3Uri"].startswith("s3://")
    assert plane.refused("POST", complete, {"stateVersion": 0, "parts": done}) == (409, "STATE_CONFLICT")
    assert requests.put(signed[1]["uploadUrl"], data=parts[1], timeout=PATIENCE).status_code == 409


def test_an_upload_that_is_not_the_declared_file_is_quarantined(plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key)
    body = {"filename": "a.csv", "declaredSizeBytes": 3, "declaredSHA256": "0" * 64, "idempotencyKey": "k"}
    begun = plane.ok("POST", f"/v1/catalogs/{catalog}/uploads", body)
    place = f"/v1/catalogs/{catalog}/uploads/{begun['uploadId']}"
    part = {"partNumber": 1, "checksumSHA256": base64.b64encode(hashlib.sha256(b"abc").digest()).decode()}
    signed = plane.ok("POST", place + "/parts", {"parts": [part]})["parts"][0]
    etag = requests.put(signed["uploadUrl"], data=b"abc", timeout=PATIENCE).headers["ETag"]
    plane.ok("POST", place + "/complete", {"stateVersion": 0, "parts": [{**part, "etag": etag}]})
    assert plane.verified(place)["status"] == "quarantined"
    uri = f"s3://hla-compass-devkit/catalog-imports/{begun['uploadId']}/a.csv"
    body = {"sourceManifest": [{"sourceUri": uri, "targetTable": "peptides"}], "idempotencyKey": "i", "mode": "append"}
    assert plane.refused("POST", f"/v1/data-catalogs/{catalog}/ingest", body) == (422, "CATALOG_INGESTION_INVALID")


def test_an_upload_can_be_given_up(plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key)
    body = {"filename": "a.csv", "declaredSizeBytes": 3, "declaredSHA256": "0" * 64, "idempotencyKey": "k"}
    begun = plane.ok("POST", f"/v1/catalogs/{catalog}/uploads", body)
    place = f"/v1/catalogs/{catalog}/uploads/{begun['uploadId']}"
    assert plane.refused("DELETE", place, {"stateVersion": 5}) == (409, "STATE_CONFLICT")
    assert plane.ok("DELETE", place, {"stateVersion": 0})["status"] == "aborted"
    assert plane.refused("DELETE", place, {"stateVersion": 1}) == (409, "STATE_CONFLICT")
    assert plane.refused("GET", place[:-1] + "g") == (400, "INVALID_QUERY_PARAMETER")


def test_bad_rows_fail_the_job_with_a_report_and_nothing_is_written(plane: Plane, fresh_key: str, ask: Ask) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    rows = "sample,peptide,intensity\nS1,GILGFVFTL,1\nS1,GILGFVFT1,1\nS1,NLVPMVATV,-1\n"
    before = ask("SELECT count(*) FROM vocabulary.peptides")
    job = plane.ingest(catalog, {"sample_peptide_mappings": plane.upload(catalog, rows)}, "k")
    assert (job["status"], job["retryable"], job["catalogVersionId"]) == ("failed", False, None)
    assert job["attempt"]["error"]["code"] == "CATALOG_IMPORT_INVALID"
    found = job["attempt"]["report"]["problems"]
    assert [(problem["row"], problem["field"]) for problem in found["shown"]] == [
        (2, "sequence"), (3, "normalized_intensity"),
    ]  # fmt: skip
    assert ask("SELECT count(*) FROM vocabulary.peptides") == before
    retry = {"stateVersion": job["stateVersion"], "idempotencyKey": "r"}
    path = f"/v1/data-catalogs/{catalog}/ingestions/{job['jobId']}"
    assert plane.refused("POST", path + "/retry", retry) == (409, "STATE_CONFLICT")
    assert plane.refused("POST", path + "/cancel", {"stateVersion": job["stateVersion"]}) == (409, "STATE_CONFLICT")


def test_an_ingestion_that_cannot_be_is_refused_at_once(plane: Plane, fresh_key: str) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["samples", "sample_peptide_mappings"])
    upload = plane.upload(catalog, MORE)
    path = f"/v1/data-catalogs/{catalog}/ingest"

    def refused(table: str, mode: str) -> str:
        source = {"sourceUri": upload["s3Uri"], "targetTable": table}
        return plane.refused("POST", path, {"sourceManifest": [source], "mode": mode, "idempotencyKey": "k"})[1]

    assert refused("sample_peptide_mappings", "replace") == "CATALOG_INGESTION_INVALID"  # samples is missing
    assert refused("sample_peptide_mappings", "append") == "CATALOG_INGESTION_INVALID"  # there is no version
    assert refused("peptides", "replace") == "CATALOG_INGESTION_INVALID"
    closed = plane.create(fresh_key + "-ro", ingestionTables=[])
    body = {"sourceManifest": [{"sourceUri": "s3://x/y", "targetTable": "samples"}], "idempotencyKey": "k"}
    assert plane.refused("POST", f"/v1/data-catalogs/{closed}/ingest", body) == (409, "CATALOG_READ_ONLY")


@pytest.fixture
def held(working_devkit: DevkitProcess) -> Any:
    """A connection that keeps writers of peptides waiting until it is rolled back."""
    connection = psycopg2.connect(**EmbeddedPostgres(working_devkit.state / "postgres").target.owner())
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE vocabulary.peptides IN SHARE MODE")
    yield connection
    connection.close()


def _waiting(ask: Ask) -> list[int]:
    statement = "SELECT pid FROM pg_locks WHERE relation = 'vocabulary.peptides'::regclass AND NOT granted"
    return [row[0] for row in until(lambda: ask(statement))]


def submit(plane: Plane, catalog: str) -> tuple[str, dict[str, Any]]:
    """An ingestion of two rows: its path, and the job as it was answered."""
    source = {"sourceUri": plane.upload(catalog, MORE)["s3Uri"], "targetTable": "sample_peptide_mappings"}
    body = {"sourceManifest": [source], "idempotencyKey": "submit"}
    job = plane.ok("POST", f"/v1/data-catalogs/{catalog}/ingest", body)
    return f"/v1/data-catalogs/{catalog}/ingestions/{job['jobId']}", job


def test_a_running_job_is_cancelled_and_publishes_nothing(plane: Plane, fresh_key: str, ask: Ask, held: Any) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    path, _ = submit(plane, catalog)
    _waiting(ask)
    running = plane.ok("GET", path)
    assert (running["status"], running["progress"]) == ("running", {"phase": "writing", "rows": 2})
    assert plane.refused("POST", path + "/cancel", {"stateVersion": 0}) == (409, "STATE_CONFLICT")
    ended = plane.ok("POST", path + "/cancel", {"stateVersion": running["stateVersion"], "reason": "a mistake"})
    assert (ended["status"], ended["cancelReason"]) == ("cancelled", "a mistake")
    held.rollback()
    other = plane.create(fresh_key + "-2", ingestionTables=["sample_peptide_mappings"])
    plane.ended(other, submit(plane, other)[1]["jobId"])  # the next one has its turn
    assert plane.ok("GET", f"/v1/data-catalogs/{catalog}/versions") == {"items": []}
    assert plane.ok("GET", path)["status"] == "cancelled"


def test_an_interrupted_job_is_retried_once_per_key(plane: Plane, fresh_key: str, ask: Ask, held: Any) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    path, job = submit(plane, catalog)
    for pid in _waiting(ask):
        ask("SELECT pg_terminate_backend(%s)", pid)
    failed = plane.ended(catalog, job["jobId"])
    assert (failed["status"], failed["retryable"]) == ("failed", True)
    assert failed["attempt"]["error"]["code"] == "CATALOG_INGESTION_INTERRUPTED"
    held.rollback()
    body = {"stateVersion": failed["stateVersion"], "idempotencyKey": "again"}
    assert plane.refused("POST", path + "/retry", {**body, "idempotencyKey": "submit"})[1] == "IDEMPOTENCY_KEY_REUSED"
    assert plane.ok("POST", path + "/retry", body)["outcome"] == "created"
    assert plane.ok("POST", path + "/retry", body)["outcome"] == "replayed"
    ended = plane.ended(catalog, job["jobId"])
    assert (ended["status"], ended["attempts"]) == ("completed", 2)
    assert len(_rows(ask, ended["catalogVersionId"])) == 2


def test_jobs_and_uploads_survive_a_killed_devkit(make_devkit: Callable[..., DevkitProcess], fresh_key: str) -> None:
    devkit = make_devkit(catalogs="on").start()
    plane = Plane(devkit, command(devkit, "token").stdout.strip().splitlines()[-1])
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    target = EmbeddedPostgres(devkit.state / "postgres").target
    holding = psycopg2.connect(**target.owner())
    with holding.cursor() as cursor:
        cursor.execute("LOCK TABLE vocabulary.peptides IN SHARE MODE")
    path, job = submit(plane, catalog)
    until(lambda: plane.ok("GET", path)["status"] == "running")
    devkit.kill()
    holding.close()
    devkit.start()
    failed = plane.ended(catalog, job["jobId"])
    assert (failed["status"], failed["retryable"]) == ("failed", True)
    plane.ok("POST", path + "/retry", {"stateVersion": failed["stateVersion"], "idempotencyKey": "again"})
    assert plane.ended(catalog, job["jobId"])["status"] == "completed"

    # `reset`: the demo catalog alone is left, as at the first start.
    view = {"name": "v", "sql": "SELECT 1 AS one", "catalogId": DEMO}
    plane.ok("POST", "/v1/data-views", view)
    plane.ok("POST", "/v1/devkit/reset")
    listed = devkit.request("GET", "/v1/api/data-catalogs").json()["catalogs"]
    assert [c["id"] for c in listed] == [DEMO]
    assert plane.ok("GET", "/v1/data-views")["items"] == []
    query = {"sql": "SELECT count(*) AS n, min(peptide_id) AS first FROM peptides"}
    answer = devkit.request("POST", f"/v1/api/data/{DEMO_PROVIDER}/{DEMO_CATALOG}/query", json=query)
    count = answer.json()["data"][0]
    assert count["first"] == 1
    assert count["n"] == listed[0]["currentVersion"]["rowCounts"]["peptides"]
    assert [p for p in below(devkit.state / "objects") if "~catalog-imports" in p.parts and p.is_file()] == []
    assert plane.create(fresh_key) == catalog


def test_storage_tokens_are_refused_for_every_catalog(
    working_devkit: DevkitProcess, plane: Plane, fresh_key: str, tmp_path: Path, monkeypatch: Any
) -> None:
    catalog = plane.create(fresh_key, ingestionTables=["sample_peptide_mappings"])
    plane.ingest(catalog, {"sample_peptide_mappings": plane.upload(catalog, MORE)}, "k")
    for mode in ("read", "write"):
        answer = working_devkit.request("GET", f"/v1/api/data/lab/{fresh_key}/storage/token?mode={mode}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CATALOG_STORAGE_VERSION_UNAVAILABLE")
    api: APIClient = sdk_client(working_devkit, tmp_path, monkeypatch).for_catalog("lab", fresh_key)
    with pytest.raises(Exception, match="no verified storage"):
        api.data.storage.get_credentials()


def test_data_commands_list_pin_and_show_tables(working_devkit: DevkitProcess, plane: Plane, fresh_key: str) -> None:
    plane.create(fresh_key)
    listed = json.loads(compass(working_devkit, "data", "catalogs", "--json").stdout)
    assert f"lab/{fresh_key}" in {f"{c['providerKey']}/{c['catalogKey']}" for c in listed}
    done = compass(working_devkit, "data", "use", f"lab/{fresh_key}")
    assert done.returncode == 0, done.stderr
    try:
        tables = compass(working_devkit, "data", "tables")
        assert f"lab/{fresh_key}" in tables.stdout
        assert [name for name in ("samples", "peptides", "proteins") if f" {name} " in tables.stdout] == [
            "samples", "peptides",
        ]  # fmt: skip
    finally:
        assert compass(working_devkit, "data", "use", "--clear").returncode == 0
