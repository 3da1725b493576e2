"""The module HLA-Compass runs: which residues anchor peptides to which HLA class I allele."""

from __future__ import annotations

from typing import Any, Literal

from hla_compass import Module, RuntimeContext

from .analysis import anchors_by_allele, length_distribution, protein_counts
from .contract import AnchorInput, AnchorOutput, Counts, SavedFile
from .epitopes import Peptide, distinct, from_input, load_bundled, select
from .plot import draw
from .tables import anchor_table, peptide_table

FILES = (
    SavedFile(name="peptides.csv", content_type="text/csv", description="Every analysed peptide with its anchors"),
    SavedFile(name="anchors.csv", content_type="text/csv", description="Residue frequencies per allele and anchor"),
    SavedFile(name="anchors.svg", content_type="image/svg+xml", description="Anchor residues and peptide lengths"),
)


class EpitopeAnchors(Module):
    """Anchor residues, lengths and sources of HLA class I peptides."""

    Input = AnchorInput
    Output = AnchorOutput

    def execute(self, input_data: AnchorInput, context: RuntimeContext) -> dict[str, Any]:
        """Collect the peptides, analyse them, store tables and plot, return the results."""
        self.logger.info("Run %s for organization %s in %s", self.run_id, self.organization_id, self.environment)

        self.report_progress(10, "Collecting peptides")
        given = self._collect(input_data)
        peptides = distinct(given)

        self.report_progress(40, f"Analysing {len(peptides)} peptides")
        results = self._analyse(input_data, peptides, duplicates=len(given) - len(peptides))

        self.report_progress(70, "Saving tables and plot")
        results.files, results.storage = self._save(input_data, results, peptides)

        self.report_progress(100, "Done")
        return self.success(results=results.model_dump(mode="json"), summary=self._summary(results))

    def _collect(self, given: AnchorInput) -> list[Peptide]:
        """Gather the peptides of the chosen alleles, published ones first so that they keep their reference."""
        bundled = load_bundled() if given.include_bundled else []
        peptides = select([*bundled, *from_input(given.peptides)], given.alleles)
        if not peptides:
            self.error("None of the peptides belongs to the alleles asked for", {"alleles": given.alleles})
        return peptides

    def _analyse(self, given: AnchorInput, peptides: list[Peptide], *, duplicates: int) -> AnchorOutput:
        alleles = anchors_by_allele(peptides)
        missing = sorted(set(given.alleles) - {entry.allele for entry in alleles})
        if missing:
            self.logger.warning("No peptides for %s", ", ".join(missing))
        own = sum(peptide.source == "own" for peptide in peptides)
        return AnchorOutput(
            counts=Counts(analysed=len(peptides), bundled=len(peptides) - own, own=own, duplicates=duplicates),
            lengths=length_distribution(peptides),
            alleles=alleles,
            proteins=protein_counts(peptides),
            missing_alleles=missing,
            files=[],
            storage="unavailable",
        )

    def _save(
        self, given: AnchorInput, results: AnchorOutput, peptides: list[Peptide]
    ) -> tuple[list[SavedFile], Literal["saved", "not_requested", "unavailable"]]:
        """Store the files with the run, all or none; an offline run has no storage and says so."""
        if not given.save_files:
            return [], "not_requested"
        if self.storage is None:
            self.logger.info("No run storage here, the results carry everything but the files")
            return [], "unavailable"
        texts = {
            "peptides.csv": peptide_table(peptides),
            "anchors.csv": anchor_table(results.alleles),
            "anchors.svg": draw(results.alleles, results.lengths),
        }
        self.storage.save_files_atomic(
            [
                {"filename": file.name, "content": texts[file.name].encode(), "content_type": file.content_type}
                for file in FILES
            ]
        )
        return list(FILES), "saved"

    @staticmethod
    def _summary(results: AnchorOutput) -> dict[str, Any]:
        """Give the few numbers a run list shows."""
        return {
            "peptides": results.counts.analysed,
            "alleles": len(results.alleles),
            "proteins": len(results.proteins),
            "files": [file.name for file in results.files],
        }
