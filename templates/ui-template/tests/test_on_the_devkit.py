"""The module as a run of a real devkit: registered, executed, its file read back."""

from __future__ import annotations

import pytest

pytest.importorskip("devkit_api", reason="the devkit is not installed: pip install hla-compass-devkit")


def test_sample_input_on_the_devkit(devkit_module, sample_input):
    result = devkit_module.run(sample_input)
    assert result.status == "completed", result.logs
    assert len(result.results["table"]) == len(sample_input["peptides"])
    [(name, table)] = result.files.items()
    assert name.endswith(".csv")
    assert table.count(b"\n") == 1 + len(sample_input["peptides"]) * len(sample_input["alleles"])
