"""The module as a run of a real devkit: registered, executed, its files read back."""

from __future__ import annotations

import pytest

pytest.importorskip("devkit_api", reason="the devkit is not installed: pip install hla-compass-devkit")


def test_sample_input_on_the_devkit(devkit_module, sample_input):
    result = devkit_module.run(sample_input)
    assert result.status == "completed", result.logs
    assert result.results["storage"] == "saved"
    assert result.files.keys() == {"peptides.csv", "anchors.csv", "anchors.svg"}
    assert result.files["peptides.csv"].count(b"\n") == 1 + result.results["counts"]["analysed"]


def test_a_wrong_residue_on_the_devkit(devkit_module):
    from devkit_api.testing.module import ModuleRefused

    with pytest.raises(ModuleRefused, match="peptides"):
        devkit_module.run({"peptides": [{"sequence": "SLLMW1TQC", "allele": "HLA-A*02:01"}]})
