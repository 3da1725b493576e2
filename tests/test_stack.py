"""The stack of docker-compose.yml as processes: the devkit, a PostgreSQL and an S3 of their own, and the proxy."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import boto3
import httpx
import psycopg2
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests.support.modules import manifest, write_module
from tests.support.postgres import external_postgres, new_database
from tests.support.process import REPO, TEST_KEY, DevkitProcess
from tests.support.proxy import shipped_proxy
from tests.support.publishing import write_publishable
from tests.support.s3 import ACCESS, s3_settings
from tests.support.waiting import PATIENCE, free_port, until

pytestmark = pytest.mark.process

BUCKET = "devkit-stack"
CLIENT = "127.0.0.2"
# Reads the catalog with the run's token, reads an input and saves a file: PostgreSQL, and S3 both ways.
MODULE = """
api = self.bind_catalog_id(input_data["catalog_id"])
found = api.get_peptides(filters={"hla_allele": "HLA-B*27:05"})
cohort = self.context.data_selection.load_source("cohort", self.storage)
self.report_progress(50, "read")
self.storage.save_file("peptides.txt", "\\n".join(sorted(p["sequence"] for p in found)).encode())
return self.success(results={"peptides": len(found), "cohort": len(cohort)})
"""


@attrs.frozen
class Stack:
    """What a client of it has, and what stands behind it."""

    address: str
    certificate: Path
    devkit: DevkitProcess
    database: dict[str, str]
    s3: str

    def client(self, **headers: str) -> httpx.Client:
        """Over HTTP/2 and TLS, trusting the certificate of scripts/make-cert.sh alone."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        # From an address of its own, so that it is told apart from the proxy.
        way = httpx.HTTPTransport(http2=True, verify=trust, local_address=CLIENT)
        return httpx.Client(transport=way, base_url=self.address, headers=headers, timeout=PATIENCE)

    def bucket(self) -> Any:
        keys = {"aws_access_key_id": ACCESS["s3_access_key"], "aws_secret_access_key": ACCESS["s3_secret_key"]}
        return boto3.resource("s3", endpoint_url=self.s3, region_name="us-east-1", **keys).Bucket(BUCKET)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Not in pytest's own folder: for root, PostgreSQL and modules run as other users."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = f"http://{host}:{port}"
    with tempfile.TemporaryDirectory(prefix="devkit-stack-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with external_postgres(folder / "postgres") as (postgres, database_port):
            database = new_database(postgres, database_port)
            proxy_port = free_port()
            behind = {"public_url": f"https://localhost:{proxy_port}", "trusted_proxies": "127.0.0.1"}
            devkit = DevkitProcess(folder / "devkit", catalogs="on", **behind, **database, **s3_settings(s3, BUCKET))
            with devkit, shipped_proxy(folder, devkit.endpoint, proxy_port) as certificate:
                yield Stack(behind["public_url"], certificate, devkit, database, s3)
    server.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client(**{"X-API-Key": TEST_KEY}) as made:
        yield made


def test_it_is_configured_as_compose_does(stack: Stack) -> None:
    shipped = yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"]["devkit"]["environment"]
    environment = stack.devkit.environment()
    # Signing keys of its own are made at the first start; the port is one that is free here.
    assert set(shipped) - {"DEVKIT_JWT_SECRET"} <= set(environment)
    only_here = {name for name in environment if name.startswith("DEVKIT_")} - set(shipped)
    assert only_here == {
        "DEVKIT_STATE_DIR", "DEVKIT_PORT", "DEVKIT_LOG_FORMAT", "DEVKIT_CATALOGS", "DEVKIT_DB_PORT",
    }  # fmt: skip


def test_a_module_runs_through_all_of_it(stack: Stack, client: httpx.Client, tmp_path: Path) -> None:
    module = write_module(tmp_path / "stacked", MODULE)
    files = {"source": ("source.zip", _zipped(module), "application/zip")}
    registered = client.post("/v1/devkit/modules", files=files)
    assert (registered.status_code, registered.http_version) == (201, "HTTP/2"), registered.text
    uploaded = client.post("/v1/devkit/inputs/cohort.csv", content=b"x" * 2_000_000)
    assert uploaded.status_code == 201, uploaded.text
    catalog = client.get("/v1/data-catalogs").json()["catalogs"][0]
    body = {
        "moduleId": "stacked", "mode": "async", "parameters": {"catalog_id": catalog["id"]},
        "dataContext": {"sources": [{"name": "cohort", "uri": uploaded.json()["uri"], "format": "CSV"}]},
    }  # fmt: skip
    started = client.post("/v1/module-runs", json=body)
    assert started.status_code == 202, started.text
    address = f"/v1/module-runs/{started.json()['runId']}"
    with client.stream("GET", f"{address}/events") as events:
        said = [line.removeprefix("event: ") for line in events.iter_lines() if line.startswith("event: ")]
    assert {"state", "progress", "log"} <= set(said), said
    result = client.get(f"{address}/result").json()
    assert result["success"], (result["error"], client.get(f"{address}/logs").text)
    found = result["data"]["results"]
    assert found["cohort"] == 2_000_000

    [file] = client.get(f"{address}/files").json()["files"]
    assert file["url"].startswith(stack.s3), "the address is the bucket's own, as MinIO would sign it"
    sequences = httpx.get(file["url"], timeout=PATIENCE).text.split()
    assert len(sequences) == found["peptides"] > 0
    keys = {item.key for item in stack.bucket().objects.all()}
    assert f"runs/{started.json()['runId']}/files/peptides.txt" in keys
    assert _known_to_the_database(stack, sequences) == set(sequences)
    assert not (stack.devkit.state / "postgres").exists()
    assert not list((stack.devkit.state / "objects").rglob("*"))


def _known_to_the_database(stack: Stack, sequences: list[str]) -> set[str]:
    database = stack.database
    connection = psycopg2.connect(
        host=database["db_host"], port=database["db_port"], dbname=database["db_name"], user=database["db_user"],
        password=database["db_password"],
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT sequence FROM vocabulary.peptides WHERE sequence = ANY(%s)", [sequences])
        found = {row[0] for row in cursor.fetchall()}
    connection.close()
    return found


def _zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return packed.getvalue()


def test_every_address_that_is_handed_out_is_the_proxys(stack: Stack, client: httpx.Client, tmp_path: Path) -> None:
    assert stack.devkit.address == stack.address, "what the devkit says it is ready at"
    folder = write_publishable(tmp_path / "handed-out", "return self.success(results={})")
    done = subprocess.run(
        [Path(sys.executable).with_name("hla-compass"), "publish", "--env", "dev", "--wait", "--interval", "1"],
        cwd=folder, env=_signed_in(stack), check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Module published successfully!" in done.stdout
    assert client.post("/v1/devkit/modules", json={"manifest": manifest("elsewhere")}).status_code == 201
    run = client.post("/v1/module-runs", json={"moduleId": "elsewhere", "parameters": {"n": 7}}).json()
    assert run["endpoint"] == stack.address
    with stack.client(**{"X-API-Key": run["token"]}) as runner:
        links = runner.post(f"/v1/module-runs/{run['runId']}/urls").json()["links"]
    assert all(link.startswith(f"{stack.address}/v1/run-links/") for link in links.values())
    assert client.get(links["payload"]).json() == {"n": 7}
    assert client.get(links["context"]).json()["platform_api_base_url"] == stack.address
    assert client.post(f"/v1/module-runs/{run['runId']}/cancel").json()["status"] == "cancelled"
    _upload_in_parts(stack, client)


def _upload_in_parts(stack: Stack, client: httpx.Client) -> None:
    at = "/v1/data-sources/devkit/uploads"
    plan = {"filename": "a.bin", "declaredSizeBytes": 4, "idempotencyKey": "through-the-proxy"}
    upload = client.post(at, json=plan).json()
    checksum = base64.b64encode(hashlib.sha256(b"part").digest()).decode()
    asked = {"revision": upload["revision"], "parts": [{"partNumber": 1, "checksumSHA256": checksum}]}
    [part] = client.post(f"{at}/{upload['uploadId']}/parts", json=asked).json()["parts"]
    assert part["url"].startswith(stack.address)
    with stack.client() as anonymous:
        sent = anonymous.put(part["url"], content=b"part", headers=part["requiredHeaders"])
    assert sent.status_code == 200, sent.text


def test_a_file_for_a_catalog_comes_in_parts_through_the_proxy(stack: Stack) -> None:
    environment = _signed_in(stack)
    table = "sample_peptide_mappings"
    catalog = {
        "providerKey": "lab", "catalogKey": "through-the-proxy", "schemaName": "observation", "label": "Through",
        "sourceTables": [table], "ingestionTables": [table],
    }  # fmt: skip
    with stack.client(Authorization=f"Bearer {environment['HLA_ACCESS_TOKEN']}") as admin:
        made = admin.post("/v1/data-catalogs", json=catalog)
    assert made.status_code == 201, made.text
    # Three parts of 8 MiB at most, each put to an address of the proxy by who holds no key.
    rows = stack.devkit.root / "rows.csv"
    rows.write_bytes(b"sample,sequence,intensity\n" + b"S1,SIINFEKL,100\n" * 1_100_000)
    where = ["data", "ingestion", "upload", made.json()["id"], str(rows), "--idempotency-key", "parts", "--yes"]
    done = subprocess.run(
        [Path(sys.executable).with_name("hla-compass"), *where], env=environment, check=False, capture_output=True,
        text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    claimed = json.loads(done.stdout)
    assert claimed["status"] == "claimed"
    kept = [item for item in stack.bucket().objects.all() if claimed["uploadId"] in item.key]
    assert [f"s3://{BUCKET}/{item.key}" for item in kept] == [claimed["s3Uri"]]
    assert kept[0].size == rows.stat().st_size


def _signed_in(stack: Stack) -> dict[str, str]:
    """The environment of somebody who knows the proxy alone."""
    command = [sys.executable, "-m", "devkit_api", "token"]
    said = subprocess.run(
        command, env=stack.devkit.environment(), check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    environment = {**stack.devkit.sdk_environment(), "HLA_API_ENDPOINT": stack.address}
    del environment["HLA_API_KEY"]
    trust = {"REQUESTS_CA_BUNDLE": str(stack.certificate), "SSL_CERT_FILE": str(stack.certificate)}
    return {**environment, **trust, "HLA_ACCESS_TOKEN": said.stdout.split()[-1]}


def test_the_audit_stream_names_the_caller_and_not_the_proxy(stack: Stack) -> None:
    with stack.client(**{"X-API-Key": "nobody-knows-this-key", "X-Forwarded-For": "192.0.2.1"}) as stranger:
        assert stranger.post("/v1/module-runs", json={}).status_code == 401

    def refused() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stack.devkit.log_lines() if '"devkit.audit"' in line]
        return [line for line in lines if line["status"] == 401 and line["action"] == "POST /v1/module-runs"]

    assert [record["address"] for record in until(refused)] == [CLIENT]


def test_the_proxy_speaks_http2_over_tls(stack: Stack, client: httpx.Client) -> None:
    def ready() -> httpx.Response | None:
        """On a busy machine a service may not answer in time, once."""
        answer = client.get("/v1/system/ready")
        return answer if answer.status_code == 200 else None

    answer = until(ready)
    assert answer.http_version == "HTTP/2"
    assert answer.json()["status"] == "ready"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000", "once, though both send it"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    missing = client.get("/not/here")
    assert missing.json()["error"]["code"] == "ROUTE_NOT_FOUND"
    assert "Strict-Transport-Security" in missing.headers
    with stack.client() as anonymous:
        assert anonymous.get("/v1/modules").status_code == 401
    plain = httpx.get(stack.address.replace("https:", "http:") + "/v1/system/ready", timeout=PATIENCE)
    assert plain.status_code == 400, "plain HTTP is not served"


def test_the_handshake_of_a_worker_passes_the_proxy(stack: Stack) -> None:
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "X-Devkit-Ticket": "made-up",
    }  # fmt: skip
    trust = ssl.create_default_context(cafile=str(stack.certificate))
    with httpx.Client(verify=trust, timeout=PATIENCE) as client:
        refused = client.get(f"{stack.address}/v1/cluster/attach", headers=handshake)
    # Refused for its ticket: without the upgrade it would not have come so far.
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "TICKET_INVALID")


def test_events_pass_the_proxy_at_once(client: httpx.Client) -> None:
    assert client.post("/v1/devkit/modules", json={"manifest": manifest("proxied")}).status_code == 201
    run = client.post("/v1/module-runs", json={"moduleId": "proxied", "parameters": {}}).json()
    with client.stream("GET", f"/v1/module-runs/{run['runId']}/events") as events:
        assert events.http_version == "HTTP/2"
        # The first event arrives while the run still waits: nothing on the way holds it back.
        first = next(events.iter_lines())
    assert first == "event: state"
    assert client.post(f"/v1/module-runs/{run['runId']}/cancel").json()["status"] == "cancelled"


def test_a_body_beyond_the_limit_is_refused_through_the_proxy(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 20_000_000)
    # curl, because httpx goes on sending over HTTP/2 and never reads the early answer.
    done = subprocess.run(
        ["curl", "--silent", "--http2", "--cacert", stack.certificate, "--header", f"X-API-Key: {TEST_KEY}",
         "--header", "Content-Type: application/json", "--data-binary", f"@{tmp_path / 'large'}",
         f"{stack.address}/v1/module-runs"],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert json.loads(done.stdout)["error"]["code"] == "BODY_TOO_LARGE", (done.returncode, done.stdout[:300])
