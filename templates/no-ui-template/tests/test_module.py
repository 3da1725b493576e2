"""The module as the platform calls it, through `Module.run`."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT, RememberingStorage
from hla_compass.manifest_sync import manifest_drift


def test_manifest_and_models_agree():
    assert manifest_drift(ROOT / "manifest.json").in_sync


def test_manifest_counts_the_bundled_epitopes_right():
    from backend.epitopes import load_bundled

    manifest = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    assert f"{len(load_bundled())} published epitopes" in manifest["description"]


def test_sample_input_offline(module, context, sample_input):
    output = module.run(sample_input, context)
    assert output["status"] == "success", output
    results = output["results"]
    assert results["counts"] == {"analysed": 57, "bundled": 55, "own": 2, "duplicates": 1}
    assert results["storage"] == "unavailable"
    assert results["files"] == []
    assert output["summary"]["alleles"] == len(results["alleles"]) == 12
    a0201 = next(entry for entry in results["alleles"] if entry["allele"] == "HLA-A*02:01")
    assert [share["residue"] for share in a0201["p2"][:2]] == ["L", "M"]
    assert {share["residue"] for share in a0201["c_term"][:2]} == {"V", "L"}


def test_files_are_stored_under_fixed_names(module, context, sample_input):
    storage = RememberingStorage()
    output = module.run(sample_input, {**context, "storage": storage})
    assert output["results"]["storage"] == "saved"
    assert {name: kind for name, (_, kind) in storage.objects.items()} == {
        "peptides.csv": "text/csv",
        "anchors.csv": "text/csv",
        "anchors.svg": "image/svg+xml",
    }
    assert [file["name"] for file in output["results"]["files"]] == list(storage.objects)
    assert storage.objects["anchors.svg"][0].startswith(b"<svg ")
    assert len(storage.objects["peptides.csv"][0].decode().splitlines()) == 1 + 57


def test_a_storage_failure_fails_the_run_and_leaves_nothing_behind(module, context, sample_input):
    storage = RememberingStorage(fail_on="anchors.svg")
    output = module.run(sample_input, {**context, "storage": storage})
    assert output["status"] == "error"
    assert "disk full" in output["error"]["message"]
    assert storage.objects == {}


def test_saving_can_be_switched_off(module, context):
    storage = RememberingStorage()
    output = module.run({"save_files": False}, {**context, "storage": storage})
    assert output["results"]["storage"] == "not_requested"
    assert storage.objects == {}


def test_empty_input_looks_at_the_bundled_epitopes(module, context):
    output = module.run({}, context)
    assert output["results"]["counts"] == {"analysed": 55, "bundled": 55, "own": 0, "duplicates": 0}


def test_own_peptides_alone(module, context):
    own = [{"sequence": "KTWGQYWQV", "allele": "HLA-A*02:01"}]
    results = module.run({"peptides": own, "include_bundled": False}, context)["results"]
    assert results["proteins"] == [{"protein": "not given", "organism": None, "peptides": 1}]
    assert results["alleles"][0]["p2"] == [{"residue": "T", "count": 1, "frequency": 1.0}]


def test_an_allele_nobody_has_is_named_in_the_result(module, context):
    results = module.run({"alleles": ["HLA-B*07:02", "HLA-C*07:02"]}, context)["results"]
    assert [entry["allele"] for entry in results["alleles"]] == ["HLA-B*07:02"]
    assert results["missing_alleles"] == ["HLA-C*07:02"]


def test_no_peptide_left_is_an_error_that_says_why(module, context):
    output = module.run({"alleles": ["HLA-C*07:02"]}, context)
    assert output["error"]["type"] == "module_error"
    assert output["error"]["details"] == {"alleles": ["HLA-C*07:02"]}


@pytest.mark.parametrize(
    "payload",
    [
        {"include_bundled": False},
        {"peptides": [{"sequence": "GILGFVFTB", "allele": "HLA-A*02:01"}]},
        {"peptides": [{"sequence": "GILGFVFTL", "allele": "A2"}]},
        {"peptides": [{"sequence": "GILGFVFTL"}]},
        {"peptides": [{"sequence": "GILGFVFTL", "allele": "HLA-A*02:01", "score": 1}]},
        {"peptides": [{"sequence": "GILGFVFTL", "allele": "HLA-A*02:01"}] * 5001},
        {"alleles": ["HLA-A*02:01"] * 51},
        {"alelles": []},
    ],
)
def test_bad_input_is_a_validation_error(module, context, payload):
    output = module.run(payload, context)
    assert (output["status"], output["error"]["type"]) == ("error", "validation_error")


def test_progress_rises_to_one_hundred(module, context, monkeypatch):
    seen: list[float] = []
    monkeypatch.setattr(module, "report_progress", lambda percent, message="": seen.append(percent))
    module.run({}, context)
    assert seen == sorted(seen)
    assert seen[-1] == 100
