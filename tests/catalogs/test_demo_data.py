"""The template's epitopes are those of the demo catalog: each was checked once, and says the same in both."""

from __future__ import annotations

import csv
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def rows(path: str) -> dict[tuple[str, str], dict[str, str]]:
    with (REPO / path).open(newline="") as file:
        return {(row["sequence"], row["allele"]): row for row in csv.DictReader(file)}


def test_the_template_tells_nothing_that_the_demo_catalog_does_not() -> None:
    demo = rows("devkit_api/catalogs/data/demo_epitopes.csv")
    bundled = rows("templates/no-ui-template/backend/data/epitopes.csv")
    assert len(bundled) >= 50
    for key, row in bundled.items():
        assert row == {name: demo[key][name] for name in row}, key
