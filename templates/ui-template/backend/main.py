"""Anchor motif scoring: which peptides fit which HLA class I alleles, judged by published anchor residues.

The module reads a list of peptides and a choice of alleles, scores every pair, draws the motif of the peptides that
fit, and keeps the full table as a CSV file. See `backend/motifs.py` for the motifs and `backend/scoring.py` for the
score; it is an anchor-motif score, not a prediction of binding affinity.
"""

from __future__ import annotations

import csv
import io
from typing import Any

from backend.contract import ModuleInput, ModuleOutput, Peptide
from backend.logos import build_logo
from backend.motifs import MOTIFS
from backend.scoring import Band, Match, Scorer
from hla_compass import Module, RuntimeContext

CSV_NAME = "motif_scores.csv"
CSV_COLUMNS = ("sequence", "name", "length", "allele", "score", "match", "background_percent", "anchors")
_ORDER = {Band.STRONG: 0, Band.POSSIBLE: 1, Band.UNLIKELY: 2}


class UIModule(Module):
    """Scores peptides against anchor motifs."""

    Input = ModuleInput
    Output = ModuleOutput

    def execute(self, input_data: ModuleInput, context: RuntimeContext) -> dict[str, Any]:
        """Run the analysis; the steps are the progress the user sees."""
        self.report_progress(0, f"Reading {len(input_data.peptides)} peptides")
        matches = self._score(input_data)
        logos = self._draw(input_data, matches)
        self.report_progress(92, "Writing results")
        saved = self._save(input_data, matches)
        rows = [_row(index, peptide, matches) for index, peptide in enumerate(input_data.peptides)]
        alleles = [_describe(allele, column) for allele, column in matches.items()]
        self.report_progress(100, "Done")
        return self.success(
            results={
                "table": rows,
                "alleles": alleles,
                "logos": logos,
                "csv": saved,
                "run": {"run_id": self.run_id, "organization_id": self.organization_id},
            },
            summary={
                "peptides": len(rows),
                "alleles": len(alleles),
                "strong": sum(row["best_band"] == Band.STRONG for row in rows),
                "possible": sum(row["best_band"] == Band.POSSIBLE for row in rows),
                "unlikely": sum(row["best_band"] == Band.UNLIKELY for row in rows),
            },
        )

    def _score(self, data: ModuleInput) -> dict[str, list[Match]]:
        matches: dict[str, list[Match]] = {}
        for number, allele in enumerate(data.alleles):
            self.report_progress(5 + 45 * number / len(data.alleles), f"Scoring {allele}")
            scorer = Scorer(MOTIFS[allele])
            matches[allele] = [scorer.match(peptide.sequence) for peptide in data.peptides]
        return matches

    def _draw(self, data: ModuleInput, matches: dict[str, list[Match]]) -> list[dict[str, Any]]:
        logos = []
        for number, (allele, column) in enumerate(matches.items()):
            self.report_progress(50 + 40 * number / len(matches), f"Drawing the motif of {allele}")
            fitting = [
                peptide.sequence
                for peptide, match in zip(data.peptides, column, strict=True)
                if match.band is not Band.UNLIKELY
            ]
            logo = build_logo(allele, fitting, resamples=data.resamples, seed=data.seed)
            if logo is not None:
                logos.append(logo)
        return logos

    def _save(self, data: ModuleInput, matches: dict[str, list[Match]]) -> dict[str, Any]:
        if not data.save_csv:
            return {"saved": False, "reason": "Saving was switched off for this run."}
        if self.storage is None:
            return {"saved": False, "reason": "This run has no storage; the table can be downloaded from the page."}
        text = _csv(data.peptides, matches)
        location = self.storage.save_file(CSV_NAME, text, "text/csv")
        return {"saved": True, "name": CSV_NAME, "location": location, "rows": len(data.peptides) * len(matches)}


def _row(index: int, peptide: Peptide, matches: dict[str, list[Match]]) -> dict[str, Any]:
    columns = {allele: column[index] for allele, column in matches.items()}
    allele, best = min(columns.items(), key=lambda item: (_ORDER[item[1].band], -item[1].score))
    return {
        "sequence": peptide.sequence,
        "name": peptide.name,
        "length": len(peptide.sequence),
        "best_allele": allele,
        "best_score": best.score,
        "best_band": str(best.band),
        "background_percent": best.background_percent,
        "anchors": best.anchors,
        "scores": [match.score for match in columns.values()],
        "bands": [str(match.band) for match in columns.values()],
    }


def _describe(allele: str, column: list[Match]) -> dict[str, Any]:
    motif = MOTIFS[allele]
    return {
        "allele": allele,
        "strong": sum(match.band is Band.STRONG for match in column),
        "possible": sum(match.band is Band.POSSIBLE for match in column),
        "anchors": [
            {
                "position": anchor.label,
                "preferred": anchor.preferred,
                "tolerated": anchor.tolerated,
                "disfavoured": anchor.disfavoured,
                "primary": anchor.primary,
            }
            for anchor in motif.anchors
        ],
        "reference": motif.citation,
    }


def _csv(peptides: list[Peptide], matches: dict[str, list[Match]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for index, peptide in enumerate(peptides):
        for allele, column in matches.items():
            match = column[index]
            writer.writerow(
                (
                    peptide.sequence,
                    _plain(peptide.name),
                    len(peptide.sequence),
                    allele,
                    match.score,
                    match.band,
                    match.background_percent,
                    match.anchors,
                )
            )
    return buffer.getvalue()


def _plain(text: str) -> str:
    """Keep a spreadsheet from reading a name as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
