"""The module's input and output models, the only place its contract is written.

`hla-compass sync-manifest` derives `inputs` and `outputs` of `manifest.json` from these classes, so a limit
changed here reaches the form, the REST API and the MCP tool after one command.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHORTEST, LONGEST = 8, 15  # residues
MAX_PEPTIDES = 5000
MAX_ALLELES = 50

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
SEQUENCE_PATTERN = f"^[{AMINO_ACIDS}]{{{SHORTEST},{LONGEST}}}$"
ALLELE_PATTERN = r"^HLA-[ABC]\*[0-9]{2,3}:[0-9]{2,3}$"

Allele = Annotated[str, Field(pattern=ALLELE_PATTERN, examples=["HLA-A*02:01"])]


class OwnPeptide(BaseModel):
    """One peptide of the user's own."""

    model_config = ConfigDict(extra="forbid", title="Peptide")

    sequence: str = Field(
        pattern=SEQUENCE_PATTERN,
        title="Sequence",
        description=f"{SHORTEST} to {LONGEST} residues, one-letter code, upper case, the 20 standard amino acids",
        examples=["KTWGQYWQV"],
    )
    allele: Allele = Field(title="Allele", description="Restricting HLA class I allele, two fields")
    protein: str | None = Field(
        None, min_length=1, max_length=120, title="Protein", description="Source protein, as you call it"
    )


class AnchorInput(BaseModel):
    """What a run of epitope-anchors takes."""

    model_config = ConfigDict(extra="forbid", title="Epitope anchors")

    peptides: list[OwnPeptide] = Field(
        default_factory=list,
        max_length=MAX_PEPTIDES,
        title="Your peptides",
        description="Peptides of your own; leave empty to look at the bundled epitopes alone",
        examples=[[{"sequence": "KTWGQYWQV", "allele": "HLA-A*02:01", "protein": "gp100"}]],
    )
    include_bundled: bool = Field(
        True, title="Include published epitopes", description="Add the bundled table of published class I epitopes"
    )
    alleles: list[Allele] = Field(
        default_factory=list,
        max_length=MAX_ALLELES,
        title="Alleles",
        description="Look at these alleles only; empty means all",
        examples=[["HLA-A*02:01", "HLA-B*07:02"]],
    )
    save_files: bool = Field(
        True, title="Save files", description="Store the two tables and the plot with the run when storage is available"
    )

    @model_validator(mode="after")
    def _something_to_analyse(self) -> AnchorInput:
        if not self.include_bundled and not self.peptides:
            raise ValueError("give at least one peptide or set include_bundled to true")
        return self


class ResidueShare(BaseModel):
    """How often one residue sits at one anchor."""

    residue: str = Field(title="Residue", description="One-letter code")
    count: int = Field(title="Peptides")
    frequency: float = Field(title="Frequency", description="Share of the allele's 8-11mers, 0 to 1")


class LengthCount(BaseModel):
    """How many peptides have one length."""

    length: int = Field(title="Length", description="Residues")
    count: int = Field(title="Peptides")


class AlleleAnchors(BaseModel):
    """Counts and anchors of one allele."""

    allele: str = Field(title="Allele")
    peptides: int = Field(title="Peptides", description="All lengths")
    anchored_peptides: int = Field(title="Peptides with anchors", description="8-11mers, the ones the anchors count")
    lengths: list[LengthCount] = Field(title="Lengths")
    p2: list[ResidueShare] = Field(title="P2", description="Second residue, most frequent first")
    c_term: list[ResidueShare] = Field(title="PΩ", description="C-terminal residue, most frequent first")


class ProteinCount(BaseModel):
    """How many peptides come from one protein."""

    protein: str = Field(title="Protein")
    organism: str | None = Field(None, title="Organism")
    peptides: int = Field(title="Peptides")


class SavedFile(BaseModel):
    """A file stored with the run."""

    name: str = Field(title="Name")
    content_type: str = Field(title="Type")
    description: str = Field(title="What it holds")


class Counts(BaseModel):
    """Where the analysed peptides came from."""

    analysed: int = Field(title="Analysed", description="Distinct sequence and allele pairs")
    bundled: int = Field(title="Bundled")
    own: int = Field(title="Own")
    duplicates: int = Field(title="Duplicates left out", description="Same sequence and allele given more than once")


class AnchorOutput(BaseModel):
    """The `results` of a run."""

    model_config = ConfigDict(title="Epitope anchor results")

    counts: Counts = Field(title="Peptide counts")
    lengths: list[LengthCount] = Field(title="Length distribution", description="From shortest to longest, gaps as 0")
    alleles: list[AlleleAnchors] = Field(title="Anchors per allele", description="Sorted by allele name")
    proteins: list[ProteinCount] = Field(title="Source proteins", description="Most peptides first")
    missing_alleles: list[str] = Field(title="Alleles without peptides", description="Asked for, but nothing found")
    files: list[SavedFile] = Field(title="Saved files", description="Empty when there is no storage")
    storage: Literal["saved", "not_requested", "unavailable"] = Field(title="Storage")
