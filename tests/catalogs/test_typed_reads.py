"""Typed reads through the real SDK, against SQL written here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hla_compass import APIClient
from hla_compass.client import APIError
from hla_compass.data import DataAccessError, PeptideData

from devkit_api.catalogs.chemistry import allele, peptide_mass
from devkit_api.catalogs.ids import DEMO_LABEL
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]
DATA = "/v1/api/data/alithea-bio/immunopeptidomics"


def _column(rows: list[tuple[Any, ...]]) -> list[Any]:
    return [row[0] for row in rows]


def test_catalogs_are_discovered_and_bound_by_pair_and_id(sdk: APIClient, independent: Ask) -> None:
    (catalog,) = sdk.list_catalogs()
    assert (catalog["providerKey"], catalog["catalogKey"], catalog["active"]) == (
        "alithea-bio",
        "immunopeptidomics",
        True,
    )
    assert catalog["isDemo"] is True
    assert "DEMO DATA" in catalog["description"]
    assert [(catalog["id"], catalog["currentVersion"]["id"])] == independent(
        "SELECT catalog_id::text, version_id::text FROM devkit.catalog_versions"
    )
    counts = catalog["currentVersion"]["rowCounts"]
    assert counts["peptides"] == independent("SELECT count(*) FROM vocabulary.peptides")[0][0] > 0
    for bound in (sdk.for_catalog_id(catalog["id"]), sdk.for_catalog("alithea-bio", "immunopeptidomics")):
        assert bound.get_peptide("GILGFVFTL")["sequence"] == "GILGFVFTL"


PEPTIDES = "SELECT peptide_id FROM vocabulary.peptides p "
OF_ALLELE = (
    "JOIN observation.sample_peptide_mappings USING (peptide_id) JOIN observation.sample_hla_typing USING (sample_id)"
    " JOIN reference.hla_alleles a USING (allele_id) "
)


@pytest.mark.parametrize(
    ("filters", "statement"),
    [
        ({}, PEPTIDES),
        ({"search": "fvf"}, PEPTIDES + "WHERE sequence LIKE '%FVF%'"),
        ({"sequence": "nlvpmvatv"}, PEPTIDES + "WHERE sequence = 'NLVPMVATV'"),
        ({"length": 10}, PEPTIDES + "WHERE length(sequence) = 10"),
        ({"minLength": 11}, PEPTIDES + "WHERE length(sequence) >= 11"),
        ({"maxLength": 8}, PEPTIDES + "WHERE length(sequence) <= 8"),
        ({"minLength": 10, "maxLength": 11}, PEPTIDES + "WHERE length(sequence) IN (10, 11)"),
        (
            {"min_intensity": 0.5},
            PEPTIDES + "JOIN observation.sample_peptide_mappings USING (peptide_id) WHERE normalized_intensity >= 0.5",
        ),
        ({"hla_allele": "HLA-B*27:05"}, PEPTIDES + OF_ALLELE + "WHERE allele_name = 'HLA-B*27:05'"),
        ({"hla_allele": "b*35"}, PEPTIDES + OF_ALLELE + "WHERE allele_name LIKE 'HLA-B*35:%'"),
        ({"hla_allele": "B2705"}, PEPTIDES + OF_ALLELE + "WHERE allele_name = 'HLA-B*27:05'"),
        (
            {"hla_allele": "A*02:01", "min_intensity": 0.5},
            PEPTIDES + OF_ALLELE + "WHERE allele_name = 'HLA-A*02:01' AND normalized_intensity >= 0.5",
        ),
        ({"peptide_ids": [3, "5"]}, PEPTIDES + "WHERE peptide_id IN (3, 5)"),
        ({"peptide_ids": "3,5"}, PEPTIDES + "WHERE peptide_id IN (3, 5)"),
        (
            {"sample_ids": [1, 2]},
            PEPTIDES + "JOIN observation.sample_peptide_mappings USING (peptide_id) WHERE sample_id IN (1, 2)",
        ),
        (
            {"protein_ids": [7]},
            PEPTIDES + "JOIN vocabulary.protein_peptide_mappings USING (peptide_id) WHERE protein_id = 7",
        ),
        ({"version": DEMO_LABEL, "length": 9}, PEPTIDES + "WHERE length(sequence) = 9"),
    ],
    ids=str,
)
def test_peptide_filters(sdk: APIClient, independent: Ask, filters: dict[str, Any], statement: str) -> None:
    expected = sorted(set(_column(independent(statement))))
    assert [p["id"] for p in sdk.get_peptides(filters=filters, limit=1000)] == expected
    assert expected, "a filter that finds nothing proves nothing"


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({"search": "ul83"}, "gene_name = 'UL83' OR name ILIKE '%UL83%'"),
        ({"accession": "p06725"}, "accession = 'P06725'"),
        ({"name": "ebna"}, "name ILIKE '%ebna%'"),
        ({"gene_name": "pmel"}, "gene_name = 'PMEL'"),
        ({"min_length": 500}, "length >= 500"),
        ({"max_length": 250}, "length <= 250"),
        ({"protein_ids": "1,2"}, "protein_id IN (1, 2)"),
        (
            {"peptide_ids": [1, 2]},
            "protein_id IN (SELECT protein_id FROM vocabulary.protein_peptide_mappings WHERE peptide_id IN (1, 2))",
        ),
        (
            {"sample_ids": [2]},
            "protein_id IN (SELECT protein_id FROM vocabulary.protein_peptide_mappings JOIN"
            " observation.sample_peptide_mappings USING (peptide_id) WHERE sample_id = 2)",
        ),
    ],
    ids=str,
)
def test_protein_filters(sdk: APIClient, independent: Ask, filters: dict[str, Any], where: str) -> None:
    expected = _column(independent(f"SELECT protein_id FROM reference.proteins WHERE {where} ORDER BY protein_id"))
    assert [p["id"] for p in sdk.get_proteins(filters=filters, limit=1000)] == expected
    assert expected


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({"search": "drb1"}, "sample_name ILIKE '%DRB1%'"),
        ({"type": "Published Epitopes"}, "sample_type = 'published epitopes'"),
        ({"sample_class": "demo"}, "sample_class = 'demo'"),
        ({"hla_allele": "HLA-A*02:01"}, "sample_name = 'Demo HLA-A*02:01'"),
        ({"sample_ids": [1, 3]}, "sample_id IN (1, 3)"),
        (
            {"peptide_ids": [1]},
            "sample_id IN (SELECT sample_id FROM observation.sample_peptide_mappings WHERE peptide_id = 1)",
        ),
        (
            {"protein_ids": [7]},
            "sample_id IN (SELECT sample_id FROM observation.sample_peptide_mappings JOIN"
            " vocabulary.protein_peptide_mappings USING (peptide_id) WHERE protein_id = 7)",
        ),
    ],
    ids=str,
)
def test_sample_filters(sdk: APIClient, independent: Ask, filters: dict[str, Any], where: str) -> None:
    expected = _column(independent(f"SELECT sample_id FROM observation.samples WHERE {where} ORDER BY sample_id"))
    assert [s["id"] for s in sdk.get_samples(filters=filters, limit=1000)] == expected
    assert expected


@pytest.mark.parametrize("filters", [{"organ": "liver"}, {"sex": "female"}, {"condition": "melanoma"}])
def test_sample_filters_the_demo_has_no_data_for_find_nothing(sdk: APIClient, filters: dict[str, str]) -> None:
    assert sdk.get_samples(filters=filters) == []


def test_pages_have_no_gap_and_no_repeat_in_every_order(sdk: APIClient, independent: Ask) -> None:
    everything = sorted(_column(independent("SELECT peptide_id FROM vocabulary.peptides")))
    assert [p["id"] for p in sdk.iter_peptides(page_size=7)] == everything
    for order in ("asc", "desc"):
        found = [p["id"] for p in sdk.iter_peptides(filters={"sort": "length", "order": order}, page_size=10)]
        assert sorted(found) == everything
        expected = independent(
            f"SELECT peptide_id FROM vocabulary.peptides ORDER BY length(sequence) {order}, peptide_id"
        )
        assert found == _column(expected)


def test_records_carry_the_documented_fields(sdk: APIClient, independent: Ask) -> None:
    peptide = sdk.get_peptide("GILGFVFTL")
    assert {"id", "sequence", "length", "sample_count", "created_at", "updated_at"} <= peptide.keys()
    assert peptide["mass"] == pytest.approx(965.5586, abs=0.001)
    assert peptide["sample_count"] == 1
    (sample,) = sdk.get_peptide_samples(str(peptide["id"]))
    (protein,) = sdk.get_peptide_proteins(str(peptide["id"]))
    assert (protein["accession"], sample["hla_typing"]) == ("P03485", "HLA-A*02:01")
    of_sample = next(p for p in sdk.get_sample_peptides(str(sample["id"])) if p["sequence"] == "GILGFVFTL")
    assert of_sample["hla_typing"] == "HLA-A*02:01"
    assert [(of_sample["normalized_intensity"],)] == independent(
        "SELECT normalized_intensity FROM observation.sample_peptide_mappings WHERE peptide_id = %s", peptide["id"]
    )
    with pytest.raises(APIError, match="Not Found"):
        sdk.get_peptide("AAAAAAAAA")


def test_get_form_answers_like_post_and_counts_when_asked(catalog_devkit: DevkitProcess) -> None:
    body = {"length": 9, "limit": 5, "offset": 2, "sort": "sequence", "order": "desc"}
    posted = catalog_devkit.request("POST", DATA + "/peptides", json=body).json()
    got = catalog_devkit.request("GET", DATA + "/peptides", params=body).json()
    session = catalog_devkit.request("GET", DATA.replace("/api", "", 1) + "/peptides", params=body).json()
    assert posted == got == session
    assert posted["total"] > 5 == len(posted["peptides"])
    assert "total" not in catalog_devkit.request("POST", DATA + "/peptides", json={"count": "false"}).json()


@pytest.mark.parametrize(
    "body",
    [
        {"tissue": "liver"}, {"limit": 0}, {"limit": 10_001}, {"offset": -1}, {"sort": "nope"}, {"order": "up"},
        {"peptide_ids": []}, {"peptide_ids": ["1;2"]}, {"peptide_ids": "1,x"}, {"length": "nine"}, {"length": True},
        {"min_intensity": "nan"}, {"min_intensity": True}, {"count": "maybe"}, {"search": ""}, {"search": "a\u0007"},
        {"peptideIds": [1], "peptide_ids": [2]}, {"sort": "sequence; DROP TABLE x"}, {"peptide_ids": [2**70]},
    ],
    ids=str,
)  # fmt: skip
def test_unknown_and_malformed_parameters_are_refused(catalog_devkit: DevkitProcess, body: dict[str, Any]) -> None:
    answer = catalog_devkit.request("POST", DATA + "/peptides", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in {"INVALID_QUERY_PARAMETER", "BODY_INVALID"}


def test_unknown_names_are_404_and_never_fall_back(catalog_devkit: DevkitProcess, sdk: APIClient) -> None:
    codes = {
        "/v1/data/alithea-bio/other/peptides": "CATALOG_NOT_FOUND",
        "/v1/data/alithea-bio/immunopeptidomics/peptides?version=demo-0": "VERSION_NOT_FOUND",
        "/v1/data/alithea-bio/immunopeptidomics/proteins/NOPE/coverage": "CATALOG_ENTITY_NOT_FOUND",
    }
    for path, code in codes.items():
        answer = catalog_devkit.request("GET", path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    with pytest.raises(DataAccessError, match="no ready version"):
        sdk.data.sql.query("SELECT 1 AS one", version="demo-0")


def test_no_credential_reads_nothing(catalog_devkit: DevkitProcess) -> None:
    for path in ("/v1/data-catalogs", DATA + "/peptides", "/v1/data-views"):
        assert catalog_devkit.request("GET", path, key=None).status_code == 401
    assert catalog_devkit.request("POST", DATA + "/query", key=None, json={"sql": "SELECT 1"}).status_code == 401


def test_alleles_and_frequencies(sdk: APIClient, independent: Ask) -> None:
    names = sorted(_column(independent("SELECT allele_name FROM reference.hla_alleles")))
    assert sorted(sdk.get_hla_alleles(resolution="full")) == names
    assert sdk.get_hla_alleles(locus="b", resolution="2-digit") == sorted(
        {name.split(":")[0] for name in names if name.startswith("HLA-B")}
    )
    samples = independent("SELECT count(*) FROM observation.samples")[0][0]
    frequencies = sdk.get_hla_frequencies()
    assert set(frequencies) == set(names)
    assert frequencies["HLA-A*02:01"] == pytest.approx(1 / samples)
    assert sdk.get_hla_frequencies(population="Nowhere") == {}


def test_coverage_positions_and_intensities(sdk: APIClient, independent: Ask) -> None:
    positions = {row["peptide_seq"]: row for row in sdk.get_peptide_positions("UL83")}
    assert positions["NLVPMVATV"]["first_aa_position"] == 495
    assert positions["NLVPMVATV"]["last_aa_position"] == 503
    coverage = sdk.get_protein_coverage("P06725")
    residues = {i for row in positions.values() for i in range(row["first_aa_position"], row["last_aa_position"] + 1)}
    assert coverage["coveredResidues"] == len(residues)
    assert coverage["coverage"] == pytest.approx(len(residues) / 561, abs=1e-6)

    rows = sdk.get_sample_intensities("UL83", search_type="protein")
    assert len(rows) == independent("SELECT count(*) FROM observation.samples")[0][0]
    hits = [row for row in rows if row["normalized_intensity"] is not None]
    assert rows[: len(hits)] == hits
    assert [row["rank"] for row in hits] == sorted(row["rank"] for row in hits)
    assert {row["peptide"] for row in hits} <= positions.keys()
    (hit,) = [row for row in sdk.get_sample_intensities("GILGFVFTL") if row["peptide"]]
    assert (hit["sample_name"], hit["sample_hla_typing"]) == ("Demo HLA-A*02:01", "HLA-A*02:01")


def test_similarity_scores_like_python(sdk: APIClient, independent: Ask) -> None:
    codes = list("ACDEFGHIKLMNPQRSTVWY")
    matrix = [[((i * 7 + j * 3) % 11) - 5 for j in range(20)] for i in range(9)]
    answer = sdk.get_peptide_similarity(length=9, amino_acids=codes, matrix=matrix, hla_alleles=["A*02:01"], top_n=4)
    candidates = _column(
        independent(
            PEPTIDES.replace("peptide_id", "sequence", 1)
            + OF_ALLELE
            + "WHERE allele_name = 'HLA-A*02:01' AND length(sequence) = 9"
        )
    )
    scores = {s: sum(matrix[i][codes.index(c)] for i, c in enumerate(s)) for s in candidates}
    ranked = sorted(scores, key=lambda s: (-scores[s], s))
    assert answer["candidate_count"] == len(candidates) > 4
    assert answer["top_peptides"] == ranked[:4]
    assert [row["score"] for row in answer["ranked_peptides"]] == [scores[s] for s in ranked[:4]]
    assert answer["score_stats"]["max"] == max(scores.values())
    assert answer["score_stats"]["mean"] == pytest.approx(sum(scores.values()) / len(scores))
    assert answer["score_curve"]["total_ranked_peptides"] == len(candidates)


def test_convenience_wrappers_views_and_storage(sdk: APIClient, catalog_devkit: DevkitProcess) -> None:
    assert PeptideData(sdk).search_by_hla("HLA-A*11:01", binding_score_min=0.0, limit=2)[0]["length"] >= 9
    assert sdk.data_views.list()["items"] == []
    with pytest.raises(DataAccessError, match="no verified storage"):
        sdk.data.storage.get_credentials()
    unknown = catalog_devkit.request("GET", "/v1/api/data-views/00000000-0000-4000-8000-000000000001")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "DATA_VIEW_NOT_FOUND")


def test_a_run_reads_with_its_own_token(catalog_devkit: DevkitProcess, sdk: APIClient, independent: Ask) -> None:
    (catalog,) = sdk.list_catalogs()
    ids = {"catalog_id": catalog["id"], "version_id": catalog["currentVersion"]["id"]}
    run = catalog_devkit.wait(catalog_devkit.run("asker", ids)["runId"])
    result = catalog_devkit.request("GET", f"/v1/module-runs/{run['runId']}/result").json()
    assert run["status"] == "completed", result
    assert sorted(result["data"]["results"]["sequences"]) == _column(
        independent(
            PEPTIDES.replace("peptide_id", "sequence", 1) + OF_ALLELE + "WHERE allele_name = 'HLA-B*27:05' ORDER BY 1"
        )
    )
    assert (
        result["data"]["results"]["nonamers"]
        == independent("SELECT count(*) FROM vocabulary.peptides WHERE length(sequence) = 9")[0][0]
    )


def test_names_and_masses() -> None:
    assert peptide_mass("GILGFVFTL") == pytest.approx(965.55861, abs=1e-4)
    assert peptide_mass("AXA") is None
    spelt = {"a*02:01", "A0201", "HLA-A*02:01", "HLA-A02:01"}
    assert {found.name for text in spelt if (found := allele(text))} == {"HLA-A*02:01"}
    assert allele("HLA-A2") is None
    assert allele("not an allele") is None
    assert allele("DQA1*05:01/DQB1*02:01").name == "HLA-DQA1*05:01/DQB1*02:01"
