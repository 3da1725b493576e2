"""The module as its users meet it: inputs, results, saved file, refusals."""

from __future__ import annotations

import csv
import io
import json

import pytest


def test_published_epitopes_find_their_restricting_allele(run, sample_input):
    output, _ = run(sample_input)
    assert output["status"] == "success", output
    best = {row["sequence"]: (row["best_allele"], row["best_band"]) for row in output["results"]["table"]}
    assert best["NLVPMVATV"] == ("HLA-A*02:01", "strong")
    assert best["QYDPVAALF"] == ("HLA-A*24:02", "strong")
    assert best["VTEHDTLLY"] == ("HLA-A*01:01", "strong")
    assert best["KLGGALQAK"] == ("HLA-A*03:01", "strong")
    assert best["RPHERNGFTVL"] == ("HLA-B*07:02", "strong")
    assert best["RAKFKQLL"] == ("HLA-B*08:01", "strong")
    assert best["EENLLDFVRF"] == ("HLA-B*44:02", "strong")


def test_rows_keep_the_order_given_and_one_score_per_allele(run, sample_input):
    results = run(sample_input)[0]["results"]
    assert [row["sequence"] for row in results["table"]] == [item["sequence"] for item in sample_input["peptides"]]
    assert all(len(row["scores"]) == len(row["bands"]) == len(results["alleles"]) for row in results["table"])
    assert [entry["allele"] for entry in results["alleles"]] == sample_input["alleles"]
    assert all(entry["reference"] for entry in results["alleles"])


def test_the_run_is_named_from_the_context(run, sample_input):
    assert run(sample_input)[0]["results"]["run"] == {"run_id": "test-run", "organization_id": "test-org"}


def test_progress_rises_to_a_hundred_and_names_each_step(run, sample_input):
    _, progress = run(sample_input)
    percents = [percent for percent, _ in progress]
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert percents[-1] == 100
    assert any("HLA-B*07:02" in message for _, message in progress)


def test_every_pair_is_in_the_saved_csv(run, sample_input, storage):
    sample_input["peptides"][0]["name"] = "=1+1"
    saved = run(sample_input)[0]["results"]["csv"]
    content, content_type = storage.files["motif_scores.csv"]
    rows = list(csv.DictReader(io.StringIO(content)))
    assert content_type == "text/csv"
    assert len(rows) == saved["rows"] == len(sample_input["peptides"]) * len(sample_input["alleles"])
    assert rows[0]["name"] == "'=1+1", "a name must not become a formula in a spreadsheet"


@pytest.mark.parametrize(("save", "with_storage"), [(False, True), (True, False)])
def test_a_csv_that_was_not_saved_says_why(run, sample_input, storage, save, with_storage):
    sample_input["save_csv"] = save
    saved = run(sample_input, with_storage=with_storage)[0]["results"]["csv"]
    assert saved["saved"] is False
    assert saved["reason"]
    assert storage.files == {}


def test_the_same_seed_gives_the_same_result(run, sample_input):
    first, second = run(sample_input)[0]["results"], run(sample_input)[0]["results"]
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peptides": []}, "peptides"),
        ({"peptides": [{"sequence": "SHORT"}]}, "sequence"),
        ({"peptides": [{"sequence": "NLVPMVATX"}]}, "sequence"),
        ({"peptides": [{"sequence": "NLVPMVATV"}] * 2001}, "peptides"),
        ({"alleles": ["HLA-Z*99:99"]}, "alleles"),
        ({"alleles": ["HLA-A*02:01", "HLA-A*02:01"]}, "alleles"),
        ({"resamples": 2001}, "resamples"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_input_outside_the_bounds_is_refused_by_name(run, sample_input, change, named):
    output, _ = run({**sample_input, **change})
    assert output["status"] == "error"
    assert output["error"]["type"] == "validation_error"
    assert named in output["error"]["message"]


def test_the_largest_input_stays_small_enough_to_show(run, sample_input):
    from backend.motifs import MOTIFS

    sample_input.update(
        peptides=[{"sequence": "NLVPMVATV", "name": "x" * 80}] * 2000, alleles=list(MOTIFS), resamples=0
    )
    output, _ = run(sample_input)
    assert output["status"] == "success"
    assert len(json.dumps(output)) < 2_000_000
