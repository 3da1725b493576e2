"""`catalog generate`: deterministic, loaded beside a running devkit, and read whole through the SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hla_compass import APIClient

from devkit_api.catalogs.ids import catalog_id
from devkit_api.catalogs.writer import VERSIONED
from devkit_api.database.embedded import EmbeddedPostgres
from tests.catalogs.conftest import asking, sdk_client, see
from tests.support.modules import scaffold
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.process, pytest.mark.slow]

Ask = Callable[..., list[tuple[Any, ...]]]
COUNT, SAMPLES = 50_000, 40


def _generate(devkit: DevkitProcess, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devkit_api", "catalog", "generate", *options]
    return subprocess.run(
        command, env=devkit.environment(), cwd=devkit.root, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def generated(folder: Path) -> Iterator[DevkitProcess]:
    devkit = DevkitProcess(folder / "generated", folder / "generated-modules", catalogs="on")
    (folder / "generated-modules").mkdir()
    devkit.root.mkdir()
    done = _generate(devkit, "--peptides", str(COUNT), "--samples", str(SAMPLES), "--seed", "7")
    assert done.returncode == 0, done.stderr
    with devkit:
        yield devkit


@pytest.fixture
def ask(generated: DevkitProcess) -> Iterator[Ask]:
    yield from asking(EmbeddedPostgres(generated.state / "postgres").target)


@pytest.fixture
def client(generated: DevkitProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    return sdk_client(generated, tmp_path, monkeypatch).for_catalog("devkit", "synthetic")


def _segment(ask: Ask, seed: int = 7) -> int:
    return ask("SELECT segment FROM devkit.catalog_versions WHERE version_label = %s", f"p{COUNT}-s{SAMPLES}-r{seed}")[
        0
    ][0]


def test_every_peptide_is_read_once_while_another_version_is_written(
    client: APIClient, generated: DevkitProcess, ask: Ask
) -> None:
    label = f"p{COUNT}-s{SAMPLES}-r7"
    command = [
        sys.executable,
        "-m",
        "devkit_api",
        "catalog",
        "generate",
        "--peptides",
        "20000",
        "--samples",
        "10",
        "--seed",
        "8",
    ]
    with subprocess.Popen(
        command, env=generated.environment(), cwd=generated.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as writer:
        found = [p["id"] for p in client.iter_peptides(filters={"version": label}, page_size=5000)]
        assert writer.wait(timeout=PATIENCE) == 0
    expected = ask("SELECT peptide_id FROM vocabulary.peptides WHERE segment = %s ORDER BY 1", _segment(ask))
    assert found == [row[0] for row in expected]
    assert len(found) == COUNT
    assert client.data.sql.query("SELECT count(*) AS n FROM peptides", version=label)["data"] == [{"n": COUNT}]
    see(generated, "devkit/synthetic", "p20000-s10-r8")
    assert client.data.sql.query("SELECT count(*) AS n FROM peptides", version="p20000-s10-r8")["data"] == [
        {"n": 20000}
    ]


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({"organ": "Liver"}, "organ_id = (SELECT organ_id FROM reference.organs WHERE organ_name = 'liver')"),
        ({"sex": "female"}, "sex = 'female'"),
        (
            {"condition": "lung"},
            "sample_id IN (SELECT sample_id FROM observation.sample_diseases JOIN reference.diseases USING (disease_id)"
            " WHERE disease_name = 'lung adenocarcinoma')",
        ),
        ({"sample_class": "diseased", "type": "tissue"}, "sample_class = 'diseased' AND sample_type = 'tissue'"),
        (
            {"hla_allele": "A*02"},
            "sample_id IN (SELECT sample_id FROM observation.sample_hla_typing JOIN reference.hla_alleles"
            " USING (allele_id) WHERE allele_name LIKE 'HLA-A*02:%%')",
        ),
    ],
    ids=str,
)
def test_sample_filters(client: APIClient, ask: Ask, filters: dict[str, str], where: str) -> None:
    label = f"p{COUNT}-s{SAMPLES}-r7"
    expected = ask(
        f"SELECT sample_id FROM observation.samples WHERE segment = %s AND {where} ORDER BY 1", _segment(ask)
    )
    found = client.get_samples(filters={**filters, "version": label}, limit=1000)
    assert [s["id"] for s in found] == [row[0] for row in expected]
    assert 0 < len(found) < SAMPLES


def test_best_predicted_binder_is_the_lowest_rank_of_the_samples_alleles(client: APIClient, ask: Ask) -> None:
    segment = _segment(ask)
    rows = ask(
        "SELECT m.peptide_id, m.sample_id, a.allele_name FROM observation.sample_peptide_mappings m"
        " JOIN vocabulary.peptide_binding_predictions b USING (peptide_id)"
        " JOIN observation.sample_hla_typing t ON t.sample_id = m.sample_id AND t.allele_id = b.allele_id"
        " JOIN reference.hla_alleles a ON a.allele_id = b.allele_id WHERE m.segment = %s ORDER BY 1, 2 LIMIT 5",
        segment,
    )
    assert len(rows) == 5
    for peptide, sample, name in rows:
        filters = {"sample_ids": [sample], "peptide_ids": [peptide], "version": f"p{COUNT}-s{SAMPLES}-r7"}
        (record,) = client.get_peptides(filters=filters)
        assert record["best_predicted_binder"] == name
        assert 0 <= record["q_value"] <= 0.01


def test_same_seed_same_rows_and_a_version_is_made_once(generated: DevkitProcess, ask: Ask) -> None:
    options = ["--peptides", "2000", "--samples", "20", "--seed", "3"]
    for key in ("twin-a", "twin-b"):
        assert _generate(generated, *options, "--catalog", key).returncode == 0
    prints = [
        ask(
            "SELECT md5(string_agg(p.sequence || m.normalized_intensity || s.sample_name || r.start_position, '|'"
            " ORDER BY p.peptide_id, s.sample_name, r.start_position)) FROM vocabulary.peptides p"
            " JOIN observation.sample_peptide_mappings m USING (peptide_id)"
            " JOIN observation.samples s USING (sample_id)"
            " JOIN vocabulary.protein_peptide_mappings r USING (peptide_id)"
            " JOIN devkit.catalog_versions v ON v.segment = p.segment WHERE v.catalog_id = %s",
            str(catalog_id("devkit", key)),
        )[0][0]
        for key in ("twin-a", "twin-b")
    ]
    assert prints[0] == prints[1]
    assert prints[0]
    before = ask("SELECT count(*) FROM vocabulary.peptides")
    again = _generate(generated, *options, "--catalog", "twin-a")
    assert again.returncode == 1
    assert "has a version 'p2000-s20-r3' already" in again.stderr
    assert _generate(generated, *options, "--catalog", "NOT A KEY").returncode == 1
    assert ask("SELECT count(*) FROM vocabulary.peptides") == before


def test_positions_are_exact(ask: Ask) -> None:
    assert ask(
        "SELECT count(*) FROM vocabulary.protein_peptide_mappings m JOIN vocabulary.peptides p USING (peptide_id)"
        " JOIN reference.proteins r USING (protein_id) WHERE r.organism = 'synthetic'"
        " AND substr(r.sequence, m.start_position, length(p.sequence)) <> p.sequence"
    ) == [(0,)]


@pytest.mark.parametrize("table", sorted({*VERSIONED} - {"raw_files", "search_sessions"}))
def test_a_ready_version_never_changes(ask: Ask, table: str) -> None:
    (schema,) = ask("SELECT table_schema FROM information_schema.tables WHERE table_name = %s AND table_schema IN"
                    " ('observation', 'vocabulary')", table)[0]  # fmt: skip
    assert ask(f"SELECT count(*) FROM {schema}.{table}") != [(0,)]
    with pytest.raises(psycopg2.errors.RestrictViolation):
        ask(f"UPDATE {schema}.{table} SET segment = segment RETURNING 1")


def test_rows_cannot_be_added_to_a_ready_version(ask: Ask) -> None:
    with pytest.raises(psycopg2.errors.RestrictViolation):
        ask("UPDATE devkit.catalog_versions SET segments = '{1}' RETURNING 1")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        ask("INSERT INTO vocabulary.peptides (segment, sequence) VALUES (%s, 'ACDEFGHIK') RETURNING 1", _segment(ask))


def test_scaffold_probes_the_catalog_in_a_run(generated: DevkitProcess, folder: Path) -> None:
    module = scaffold(folder / "generated-modules", "prober", "no-ui", generated.sdk_environment())
    assert module.is_dir()
    answer = generated.request("POST", "/v1/devkit/modules", json={"source": {"path": str(module)}})
    catalogs = generated.request("GET", "/v1/api/data-catalogs").json()["catalogs"]
    synthetic = next(c for c in catalogs if c["catalogKey"] == "synthetic")
    options = {
        "probe_catalog": True,
        "save_results": False,
        "catalog_id": synthetic["id"],
        "catalog_version_id": synthetic["currentVersion"]["id"],
    }
    deadline_run = generated.run("prober", {"data_source": [{"id": 1, "value": "a"}], "options": options})
    run = generated.wait(deadline_run["runId"])
    result = generated.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
    assert run["status"] == "completed", (answer.text, result)
    assert result["data"]["results"]["data_probe"] == {"attempted": True, "enabled": True, "rest_peptides": 3}


def test_command_line_of_the_sdk_lists_catalogs_and_tables(generated: DevkitProcess) -> None:
    def cli(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("hla-compass")), "data", *arguments]
        done = subprocess.run(
            command,
            env=generated.sdk_environment(),
            cwd=generated.root,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "synthetic" in cli("catalogs")
    cli("use", "devkit/synthetic")
    assert "sample_peptide_mappings" in cli("tables")
    cli("views", "list")


def test_keys_hold_although_they_are_not_checked_on_the_way(ask: Ask) -> None:
    keys = ask(
        "SELECT conrelid::regclass::text, a.attname, confrelid::regclass::text, f.attname FROM pg_constraint c"
        " JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]"
        " JOIN pg_attribute f ON f.attrelid = confrelid AND f.attnum = confkey[1]"
        " WHERE contype = 'f' AND connamespace::regnamespace::text IN ('observation', 'vocabulary')"
    )
    assert len(keys) > 20
    for table, column, other, key in keys:
        statement = f"SELECT count(*) FROM {table} t WHERE t.{column} IS NOT NULL"
        assert ask(f"{statement} AND NOT EXISTS (SELECT FROM {other} o WHERE o.{key} = t.{column})") == [(0,)], table
