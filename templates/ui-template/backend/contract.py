"""The module's contract: these models are the source of truth of `inputs` and `outputs` in manifest.json.

After a change run `hla-compass sync-manifest`; `hla-compass check` fails when the two disagree. Titles, descriptions
and examples become the labels, help texts and placeholders of the form, so they are written for the person at the form.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from backend.motifs import MOTIFS
from pydantic import BaseModel, ConfigDict, Field

MAX_PEPTIDES = 2000
MAX_RESAMPLES = 2000
# Published viral and tumour epitopes; the form offers them as its example.
EXAMPLE_PEPTIDES = [
    {"sequence": sequence, "name": name}
    for sequence, name in (
        ("NLVPMVATV", "CMV pp65 495-503"),
        ("GILGFVFTL", "Influenza M1 58-66"),
        ("GLCTLVAML", "EBV BMLF1 259-267"),
        ("ELAGIGILTV", "MART-1 26-35 (A27L)"),
        ("SLLMWITQC", "NY-ESO-1 157-165"),
        ("VTEHDTLLY", "CMV pp50 245-253"),
        ("CTELKLSDY", "Influenza NP 44-52"),
        ("KLGGALQAK", "CMV IE1 184-192"),
        ("RLRAEAQVK", "EBV EBNA3A 603-611"),
        ("QYDPVAALF", "CMV pp65 341-349"),
        ("RPHERNGFTVL", "CMV pp65 265-275"),
        ("RPPIFIRRL", "EBV EBNA3A 379-387"),
        ("FLRGRAYGL", "EBV EBNA3A 193-201"),
        ("RAKFKQLL", "EBV BZLF1 190-197"),
    )
]
AlleleName = Annotated[str, Field(json_schema_extra={"enum": list(MOTIFS)})]


class Peptide(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Peptide")

    sequence: str = Field(
        ...,
        title="Sequence",
        description="8 to 11 standard amino acids in one-letter code, upper case.",
        pattern=r"^[ACDEFGHIKLMNPQRSTVWY]{8,11}$",
        examples=["NLVPMVATV"],
    )
    name: str = Field("", title="Name", description="Your label for the peptide, up to 80 characters.", max_length=80)


class ModuleInput(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Anchor motif scoring")

    peptides: list[Peptide] = Field(
        ...,
        title="Peptides",
        description="One peptide per line, 8 to 11 residues. A name may follow after a space, comma or tab.",
        min_length=1,
        max_length=MAX_PEPTIDES,
        examples=[EXAMPLE_PEPTIDES],
    )
    alleles: list[AlleleName] = Field(
        ...,
        title="HLA alleles",
        description="The class I alleles to score against.",
        min_length=1,
        max_length=len(MOTIFS),
        examples=[["HLA-A*01:01", "HLA-A*02:01", "HLA-A*03:01", "HLA-A*24:02", "HLA-B*07:02", "HLA-B*08:01"]],
        json_schema_extra={"uniqueItems": True},
    )
    resamples: int = Field(
        200,
        title="Bootstrap resamples",
        description="How often each logo is resampled for its 95 % interval. 0 draws no intervals; more takes longer.",
        ge=0,
        le=MAX_RESAMPLES,
    )
    seed: int = Field(
        1,
        title="Random seed",
        description="The same seed gives the same intervals.",
        ge=0,
        le=2_147_483_647,
    )
    save_csv: bool = Field(
        True,
        title="Save a CSV file",
        description="Keep every peptide-allele score as motif_scores.csv with the run.",
    )


class ResultRow(BaseModel):
    model_config = ConfigDict(title="Peptide result")

    sequence: str = Field(..., title="Peptide")
    name: str = Field(..., title="Name")
    length: int = Field(..., title="Length")
    best_allele: str = Field(..., title="Best allele")
    best_score: float = Field(..., title="Score", description="Share of the perfect motif score, 0 to 100.")
    best_band: Literal["strong", "possible", "unlikely"] = Field(..., title="Motif match")
    background_percent: float = Field(
        ..., title="Random peptides as good", description="Per cent of random human peptides that score at least this."
    )
    anchors: str = Field(..., title="Anchors", description="The primary anchor residues for the best allele.")
    scores: list[float] = Field(..., title="Scores", description="One score per allele, in the order of `alleles`.")
    bands: list[str] = Field(..., title="Matches", description="One verdict per allele, in the order of `alleles`.")


class ModuleOutput(BaseModel):
    model_config = ConfigDict(title="Anchor motif results")

    table: list[ResultRow] = Field(..., title="Peptides", description="One row per peptide, in the order given.")
    alleles: list[dict[str, Any]] = Field(
        ..., title="Alleles", description="Per allele: its anchors, the literature they come from, and match counts."
    )
    logos: list[dict[str, Any]] = Field(
        ...,
        title="Sequence logos",
        description="Per allele with matches: information content and residues by position.",
    )
    csv: dict[str, Any] = Field(..., title="CSV file", description="Where the CSV was saved, or why it was not.")
    run: dict[str, Any] = Field(..., title="Run", description="The run and organisation that made this result.")
