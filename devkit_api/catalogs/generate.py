"""A synthetic catalog of any size: the same figures and seed give the same rows.

What is made: random proteins; peptides cut from them (8 to 15 residues, so positions are exact); samples with an organ,
a sex, a disease or none, and six class I alleles; each peptide seen in one to eight samples, and predicted for one
allele. Nothing of it is measured; sequences follow the amino acid frequencies of UniProtKB/Swiss-Prot, roughly.
Rows go in with COPY, in one transaction: one thread makes them while another sends them.
"""

from __future__ import annotations

import io
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import attrs
from psycopg2 import sql

from devkit_api.catalogs.chemistry import AlleleName, allele, peptide_mass
from devkit_api.catalogs.writer import TABLES, CatalogSpec, VersionWriter, settle

TOOL, TOOL_VERSION = "devkit-synthetic", "1"
_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
_WEIGHTS = (83, 14, 55, 67, 39, 71, 23, 59, 58, 97, 24, 41, 47, 39, 55, 66, 53, 69, 11, 29)
_LENGTHS, _LENGTH_WEIGHTS = range(8, 16), (8, 45, 18, 12, 5, 4, 4, 4)
_ALLELES = (
    "HLA-A*01:01", "HLA-A*02:01", "HLA-A*03:01", "HLA-A*11:01", "HLA-A*24:02", "HLA-A*68:01", "HLA-B*07:02",
    "HLA-B*08:01", "HLA-B*15:01", "HLA-B*27:05", "HLA-B*35:01", "HLA-B*44:02", "HLA-B*57:01", "HLA-C*03:04",
    "HLA-C*04:01", "HLA-C*05:01", "HLA-C*06:02", "HLA-C*07:01", "HLA-C*07:02",
)  # fmt: skip
_ORGANS = ("blood", "brain", "breast", "colon", "kidney", "liver", "lung", "skin", "spleen", "thymus")
_DISEASES = ("melanoma", "lung adenocarcinoma", "colorectal carcinoma", "glioblastoma", "chronic lymphocytic leukemia")
_CHUNK = 10_000
_PER_PROTEIN = 100
_SENDING = 8

Progress = Callable[[int], None]


@attrs.frozen
class Size:
    """What is asked for."""

    peptides: int
    samples: int
    seed: int

    @property
    def label(self) -> str:
        """The version's label says all that made it."""
        return f"p{self.peptides}-s{self.samples}-r{self.seed}"


def generate(connection: Any, spec: CatalogSpec, size: Size, progress: Progress) -> VersionWriter:
    """Write one version. Blocking; `progress` is told the number of peptides after each batch."""
    with connection, connection.cursor() as cursor:
        # One writer at a time: ids are taken in blocks.
        cursor.execute("LOCK TABLE devkit.catalog_versions IN SHARE ROW EXCLUSIVE MODE")
        writer = VersionWriter(cursor, spec, size.label)
        writer.begin()
        # Keys hold by construction; checking each of millions takes most of the time. Superusers alone may skip it.
        cursor.execute(
            "SELECT set_config('session_replication_role', 'replica', true)"
            " WHERE current_setting('is_superuser') = 'on'"
        )
        with ThreadPoolExecutor(1) as sender:
            _Generator(cursor, writer, size, sender).write(progress)
        writer.finish()
    settle(connection)
    return writer


class _Generator:
    def __init__(self, cursor: Any, writer: VersionWriter, size: Size, sender: ThreadPoolExecutor) -> None:
        self._cursor, self._writer, self._size = cursor, writer, size
        self._sender = sender
        self._sending: deque[Future[None]] = deque()
        self._random = random.Random(size.seed)  # noqa: S311  reproducible on purpose

    def write(self, progress: Progress) -> None:
        names = [found for name in _ALLELES if (found := allele(name))]
        alleles = list(self._writer.alleles(names).values())
        samples = self._samples(names, alleles)
        self._wait(0)  # the cursor is one thread's at a time
        proteins = self._proteins()
        first = self._reserve("peptides", "peptide_id", self._size.peptides)
        first_form = self._reserve("peptidoforms", "peptidoform_id", self._size.peptides)
        cut = enumerate(self._cut(proteins))
        done = 0
        while batch := list(islice(cut, _CHUNK)):
            self._peptides(batch, first, first_form)
            self._observations(batch, first, first_form, samples, alleles)
            done += len(batch)
            progress(done)
        self._wait(0)

    def _samples(self, names: Sequence[AlleleName], alleles: list[int]) -> list[int]:
        draw = self._random
        organs = list(self._writer.named("organs", "organ_id", "organ_name", _ORGANS).values())
        diseases = list(self._writer.named("diseases", "disease_id", "disease_name", _DISEASES).values())
        first = self._reserve("samples", "sample_id", self._size.samples)
        ids = [first + n for n in range(self._size.samples)]
        ill = [draw.random() < 0.5 for _ in ids]
        self._copy(
            "samples",
            ["sample_id", "original_sample_number", "sample_name", "sample_class", "sample_type", "sex", "organ_id",
             "annotation"],
            (
                (i, n, f"SYN-{n:05d}", "diseased" if sick else "healthy", draw.choice(("tissue", "cells")),
                 draw.choice(("female", "male")), draw.choice(organs), "Synthetic sample")
                for n, (i, sick) in enumerate(zip(ids, ill, strict=True), start=1)
            ),
        )  # fmt: skip
        sick = [i for i, is_ill in zip(ids, ill, strict=True) if is_ill]
        self._copy("sample_diseases", ["sample_id", "disease_id"], [(i, draw.choice(diseases)) for i in sick])
        typed = [(i, index) for i in ids for index in sorted(draw.sample(range(len(alleles)), 6))]
        self._copy("sample_hla_typing", ["sample_id", "allele_id"], [(i, alleles[index]) for i, index in typed])
        self._copy(
            "sample_allele_scoring",
            ["sample_id", "allele_id", "tool", "tool_version", "scored_allele_name"],
            [(i, alleles[index], TOOL, TOOL_VERSION, names[index].name) for i, index in typed],
        )
        return ids

    def _proteins(self) -> list[tuple[int, str]]:
        """(id, sequence), enough to cut the peptides from."""
        count = max(5, self._size.peptides // _PER_PROTEIN)
        made = []
        for number in range(count):
            sequence = "".join(self._random.choices(_AMINO_ACIDS, _WEIGHTS, k=self._random.randint(150, 600)))
            made.append((f"Synthetic protein {self._size.label}-{number}", number, sequence))
        ids = self._writer.proteins(
            ["name", "organism", "gene_name", "accession", "sequence", "length", "description"],
            [
                (name, "synthetic", f"SYN{number}", f"SYN-{self._size.label}-{number}", sequence, len(sequence),
                 "Synthetic")
                for name, number, sequence in made
            ],
        )  # fmt: skip
        return [(ids[(name, "synthetic")], sequence) for name, _, sequence in made]

    def _cut(self, proteins: list[tuple[int, str]]) -> Iterator[tuple[str, int, int]]:
        """(sequence, protein id, start), every sequence once."""
        seen: set[str] = set()
        while len(seen) < self._size.peptides:
            protein, whole = self._random.choice(proteins)
            length = self._random.choices(_LENGTHS, _LENGTH_WEIGHTS)[0]
            start = self._random.randrange(len(whole) - length)
            sequence = whole[start : start + length]
            if sequence not in seen:
                seen.add(sequence)
                yield sequence, protein, start + 1

    def _peptides(self, batch: list[tuple[int, tuple[str, int, int]]], first: int, first_form: int) -> None:
        self._copy(
            "peptides", ["peptide_id", "sequence", "mass"], ((first + n, s, peptide_mass(s)) for n, (s, _, _) in batch)
        )
        self._copy(
            "peptidoforms",
            ["peptidoform_id", "peptide_id", "modified_sequence"],
            ((first_form + n, first + n, s) for n, (s, _, _) in batch),
        )
        self._copy(
            "protein_peptide_mappings",
            ["peptide_id", "protein_id", "start_position", "end_position"],
            ((first + n, protein, start, start + len(s) - 1) for n, (s, protein, start) in batch),
        )

    def _observations(
        self, batch: list[tuple[int, Any]], first: int, first_form: int, samples: list[int], alleles: list[int]
    ) -> None:
        draw = self._random
        self._copy(
            "sample_peptide_mappings",
            ["sample_id", "peptide_id", "peptidoform_id", "normalized_intensity", "q_value"],
            (
                (sample, first + n, first_form + n, round(draw.lognormvariate(0, 1), 6), round(draw.random() / 100, 6))
                for n, _ in batch
                for sample in draw.sample(samples, min(len(samples), draw.choice((1, 1, 1, 2, 2, 3, 5, 8))))
            ),
        )
        columns = ["peptide_id", "allele_id", "tool", "tool_version", "raw_score", "percentile_rank", "binding_level"]
        self._copy("peptide_binding_predictions", columns, (self._prediction(first + n, alleles) for n, _ in batch))

    def _prediction(self, peptide: int, alleles: list[int]) -> tuple[Any, ...]:
        rank = round(self._random.random() * 5, 4)
        level = "SB" if rank < 0.5 else "WB" if rank < 2 else None
        return peptide, self._random.choice(alleles), TOOL, TOOL_VERSION, round(1 - rank / 5, 6), rank, level

    def _reserve(self, table: str, column: str, count: int) -> int:
        """The first of `count` ids that are ours alone."""
        self._cursor.execute(
            "SELECT setval(s, nextval(s) + %s) - %s FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS s) q",
            [count, count, f"{TABLES[table]}.{table}", column],
        )
        return int(self._cursor.fetchone()[0])

    def _copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """COPY rows of our own making: no value holds a tab, a line break or a backslash."""
        end = f"\t{self._writer.segment}\n"
        lines = "".join("\t".join("\\N" if v is None else str(v) for v in row) + end for row in rows)
        name = sql.Identifier(TABLES[table], table)
        listed = sql.SQL(", ").join(map(sql.Identifier, [*columns, "segment"]))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(name, listed)
        self._sending.append(self._sender.submit(self._cursor.copy_expert, statement, io.StringIO(lines)))
        self._wait(_SENDING)

    def _wait(self, left: int) -> None:
        """Until at most `left` batches are on their way. Raises what a batch raised."""
        while len(self._sending) > left:
            self._sending.popleft().result()
