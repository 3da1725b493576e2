"""`catalog import`: files of users become versions, whole or not at all; what is wrong is told by row."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow
import pyarrow.parquet
import pytest

from devkit_api.catalogs.imports import files
from devkit_api.catalogs.imports.files import open_rows
from devkit_api.catalogs.imports.load import ImportPlan, Loaded, Source, load
from devkit_api.catalogs.writer import CatalogSpec
from devkit_api.database.embedded import EmbeddedPostgres
from devkit_api.errors import DevkitError, ImportInvalid, ImportTooLarge, ImportUnreadable
from tests.catalogs.conftest import command, sdk_client, see
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]
ROWS = "Sample,Peptide,Intensity,Accession,Gene,Start,Alleles\n"
GOOD = ROWS + (
    "S1,GILGFVFTL,10.5,P03485,M,58,A*02:01;B*07:02\nS1,NLVPMVATV,3,P06725,UL83,495,a0201\n"
    "S2,GILGFVFTL,7,P03485,M,58,hla-a*03:01\nS2,GILGFVFTL,7,X99999,NEW,12,hla-a*03:01\n"
)


class Quiet:
    """A `Watch` that only counts."""

    rows = 0

    def read(self, source: int, read_bytes: int, rows: int) -> None:
        self.rows = rows

    def writing(self) -> None:
        pass

    def before_commit(self, cursor: Any, version_id: str) -> None:
        pass


Import = Callable[..., Loaded]


@pytest.fixture
def run_import(working_devkit: DevkitProcess, tmp_path: Path, fresh_key: str) -> Import:
    """Import texts into a catalog of the test's own: `table=content`, by the engine both doors use."""

    def run(label: str = "v1", append: bool = False, **tables: str) -> Loaded:
        sources = []
        for table, content in tables.items():
            path = tmp_path / f"{label}-{table}.csv"
            path.write_text(content)
            sources.append(Source(path, path.name, table))
        spec = CatalogSpec("import", fresh_key, fresh_key, "")
        connection = psycopg2.connect(**EmbeddedPostgres(working_devkit.state / "postgres").target.owner())
        try:
            return load(connection, ImportPlan(spec, label, sources, append), Quiet())
        finally:
            connection.close()

    return run


def _problems(refused: pytest.ExceptionInfo[ImportInvalid]) -> list[tuple[int, str]]:
    return [(problem["row"], problem["field"]) for problem in refused.value.details["problems"]["shown"]]


def test_the_command_imports_what_the_sdk_then_reads(
    working_devkit: DevkitProcess, fresh_key: str, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(GOOD)
    done = command(working_devkit, "catalog", "import", str(file), "--catalog", fresh_key, "--label", "v1", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert (report["catalog"], report["rows"], report["problems"]["count"]) == (f"local/{fresh_key}", 4, 0)
    assert report["sources"][0]["columns"]["hla_typing"] == "Alleles"
    segment = ask("SELECT segment FROM devkit.catalog_versions WHERE version_id = %s", report["version"]["id"])[0][0]
    assert ask(
        "SELECT sample_name, string_agg(allele_name, ' ' ORDER BY allele_name) FROM observation.samples"
        " JOIN observation.sample_hla_typing USING (sample_id) JOIN reference.hla_alleles USING (allele_id)"
        " WHERE samples.segment = %s GROUP BY 1 ORDER BY 1",
        segment,
    ) == [("S1", "HLA-A*02:01 HLA-B*07:02"), ("S2", "HLA-A*03:01")]
    assert ask(
        "SELECT p.sequence, r.accession, m.start_position, m.end_position, round(p.mass::numeric, 3)::float8"
        " FROM vocabulary.protein_peptide_mappings m JOIN vocabulary.peptides p USING (peptide_id)"
        " JOIN reference.proteins r USING (protein_id) WHERE m.segment = %s ORDER BY 1, 2",
        segment,
    ) == [
        ("GILGFVFTL", "P03485", 58, 66, 965.559), ("GILGFVFTL", "X99999", 12, 20, 965.559),
        ("NLVPMVATV", "P06725", 495, 503, 942.521),
    ]  # fmt: skip
    see(working_devkit, f"local/{fresh_key}", "v1")
    api = sdk_client(working_devkit, tmp_path, monkeypatch).for_catalog("local", fresh_key)
    assert [p["sample_count"] for p in api.get_peptides(filters={"sequence": "GILGFVFTL"})] == [2]

    again = command(working_devkit, "catalog", "import", str(file), "--catalog", fresh_key, "--label", "v1")
    assert again.returncode == 1
    assert "has a version 'v1' already" in again.stderr
    assert "reading" not in again.stderr  # no progress bar where there is no terminal
    mapped = command(
        working_devkit, "catalog", "import", str(file), "--catalog", fresh_key, "--table", "samples", "--map",
        "annotation=Gene", "--set", "sample_class=tumour", "--map", "nope=Gene",
    )  # fmt: skip
    assert mapped.returncode == 1
    assert "samples has no field 'nope'" in mapped.stderr
    demo = command(
        working_devkit, "catalog", "import", str(file), "--provider", "alithea-bio", "--catalog", "immunopeptidomics"
    )
    assert demo.returncode == 1
    assert "demo catalog" in demo.stderr


def test_bad_rows_are_told_by_the_command_and_leave_nothing(
    working_devkit: DevkitProcess, fresh_key: str, ask: Ask, tmp_path: Path
) -> None:
    before = ask("SELECT count(*) FROM devkit.catalog_versions"), ask("SELECT count(*) FROM vocabulary.peptides")
    file = tmp_path / "rows.csv"
    file.write_text(ROWS + "S1,GILGFVFTL,1,,,,\nS1,GILGF1FTL,x,,,,A2\n,AAA,1,,,,\n")
    done = command(working_devkit, "catalog", "import", str(file), "--catalog", fresh_key)
    assert done.returncode == 1
    assert "rows.csv, row 2, sequence 'GILGF1FTL': '1' is no amino acid" in done.stderr
    assert "rows.csv, row 2, hla_typing 'A2': 'A2' is no HLA allele" in done.stderr
    assert "rows.csv, row 3, sample_name" in done.stderr
    assert "4 problem(s)" in done.stderr
    after = ask("SELECT count(*) FROM devkit.catalog_versions"), ask("SELECT count(*) FROM vocabulary.peptides")
    assert after == before
    assert ask("SELECT count(*) FROM devkit.catalogs WHERE catalog_key = %s", fresh_key) == [(0,)]


def test_an_append_adds_to_the_chain_and_repeats_no_peptide(run_import: Import, ask: Ask) -> None:
    first = run_import(sample_peptide_mappings=GOOD)
    more = "sample,peptide,intensity,modified_sequence\n"
    more += "S3,GILGFVFTL,1,\nS1,GILGFVFTL,2,GILGFVFT[+80]L\nS3,KLGGALQAK,5,\n"
    second = run_import("v2", append=True, sample_peptide_mappings=more)
    assert second.row_counts["peptides"] == 3
    assert second.row_counts["peptidoforms"] == 4
    assert second.row_counts["samples"] == 3
    assert second.row_counts["sample_peptide_mappings"] == 6
    segments = ask(
        "SELECT version_label, segments, parent_id::text FROM devkit.catalog_versions"
        " WHERE version_id IN (%s, %s) ORDER BY segment",
        first.version_id, second.version_id,
    )  # fmt: skip
    assert segments[1][1][0] == segments[0][1][0]
    assert segments[1][2] == first.version_id
    same = "SELECT count(*) FROM vocabulary.peptides WHERE segment = ANY(%s) AND sequence = 'GILGFVFTL'"
    assert ask(same, segments[1][1]) == [(1,)]
    with pytest.raises(ImportInvalid) as refused:
        run_import("v3", append=True, sample_peptide_mappings=more)
    assert _problems(refused) == [(1, "sequence"), (2, "sequence"), (3, "sequence")]


def test_samples_of_a_file_are_known_or_named(run_import: Import, ask: Ask) -> None:
    samples = "sample,tissue,sex,disease,class\nS1,Lung,F,melanoma,tumour\nS2,,,,\n"
    rows = "sample,peptide,intensity\nS1,GILGFVFTL,1\nS9,GILGFVFTL,1\n"
    with pytest.raises(ImportInvalid) as refused:
        run_import(samples=samples, sample_peptide_mappings=rows)
    assert _problems(refused) == [(2, "sample_name")]
    made = run_import(samples=samples, sample_peptide_mappings=rows.replace("S9", "S2"))
    assert ask(
        "SELECT sample_name, sex, sample_class, organ_name FROM observation.samples LEFT JOIN reference.organs"
        " USING (organ_id) WHERE segment = (SELECT segment FROM devkit.catalog_versions WHERE version_id = %s)"
        " ORDER BY 1",
        made.version_id,
    ) == [("S1", "female", "tumour", "Lung"), ("S2", None, "unspecified", None)]
    with pytest.raises(ImportInvalid) as refused:
        run_import("v2", append=True, samples="sample\nS2\nS3\n")
    assert _problems(refused) == [(1, "sample_name")]
    typing = run_import("v3", append=True, sample_hla_typing="sample,allele\nS1,A*02:01\nS1,HLA-DRB1*15:01\n")
    assert typing.row_counts["sample_hla_typing"] == 2
    diseases = run_import("v4", append=True, sample_diseases="sample,disease\nS2,asthma\n")
    assert diseases.row_counts["sample_diseases"] == 2


@pytest.mark.parametrize(
    ("table", "content", "problems"),
    [
        ("sample_peptide_mappings", "sample,peptide,intensity\nS,AAA,1\nS,AAA,1\nS,AAA,2\n", [(3, "sequence")]),
        ("samples", "sample\nS\nS\n", [(2, "sample_name")]),
        ("samples", "sample,sex,sample_number\nS,x,1.5\n", [(1, "original_sample_number"), (1, "sex")]),
        ("sample_hla_typing", "sample,allele\nS,A*02:01\n", [(1, "sample_name")]),
        ("protein_peptide_mappings", "peptide,accession,start\nAAA,,\nAAA,P1,0\n", [(2, "start_position")]),
        ("protein_peptide_mappings", "peptide,accession\nAAA,\n", [(1, "accession")]),
        ("sample_peptide_mappings", "sample,peptide,intensity,start\nS,AAA,1,5\n", [(1, "start_position")]),
        (
            "peptide_binding_predictions",
            "peptide,allele,tool,tool_version,score,rank,level\nAAA,A*02:01,t,1,0.5,0.1,SB\nAAA,A0201,t,1,0.5,0.2,SB\n"
            "AAA,A*02:01,t,2,0.5,101,\n",
            [(3, "percentile_rank")],
        ),
        (
            "peptide_binding_predictions",
            "peptide,allele,tool,tool_version,score,rank\nAAA,A*02:01,t,1,0.5,0.1\nAAA,A0201,t,1,0.5,0.2\n",
            [(2, "sequence")],
        ),
        ("peptides", "peptide\n" + "A" * 101 + "\nACDX\nn/a\n", [(1, "sequence"), (3, "sequence")]),
    ],
    ids=lambda value: value if isinstance(value, str) and "," not in value else "",
)
def test_wrong_rows_are_named(run_import: Import, table: str, content: str, problems: list[tuple[int, str]]) -> None:
    with pytest.raises(ImportInvalid) as refused:
        run_import(**{table: content})
    assert _problems(refused) == problems


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no header"),
        ("sample,peptide,intensity\n", "no rows"),
        ("sample,peptide\nS,AAA\n", "no column gives normalized_intensity"),
        ("sample,peptide,intensity\nS,AAA\n", "row 1 has 2 fields, the header 3"),
        ("sample,peptide,peptide,intensity\nS,AAA,AAA,1\n", "two columns"),
        ('sample,peptide,intensity\nS,"AAA,1\n', "row 1 is not well-formed"),
    ],
)
def test_files_that_are_no_tables_are_refused(run_import: Import, content: str, reason: str) -> None:
    with pytest.raises(ImportUnreadable, match=reason):
        run_import(sample_peptide_mappings=content)


def test_problems_are_counted_beyond_what_is_shown(run_import: Import) -> None:
    with pytest.raises(ImportInvalid) as refused:
        run_import(peptides="peptide\n" + "123\n" * 250)
    found = refused.value.details["problems"]
    assert (found["count"], len(found["shown"])) == (250, 100)


def test_proteins_of_one_name_stay_apart_by_accession(run_import: Import, ask: Ask, fresh_key: str) -> None:
    name = f"Twin {fresh_key}"
    rows = "peptide,accession,protein,species\n"
    rows += f"AAA,{fresh_key}1,{name},Homo sapiens\nCCC,{fresh_key}2,{name},Homo sapiens\n"
    run_import(protein_peptide_mappings=rows)
    run_import("v2", protein_peptide_mappings=rows + f"DDD,,{name},Mus musculus\n")
    found = "SELECT name, accession, organism FROM reference.proteins WHERE name LIKE %s ORDER BY 1"
    assert ask(found, name + "%") == [
        (name, None, "Mus musculus"),
        (f"{name} ({fresh_key}1)", f"{fresh_key}1", "Homo sapiens"),
        (f"{name} ({fresh_key}2)", f"{fresh_key}2", "Homo sapiens"),
    ]


def test_text_files_come_packed_with_semicolons_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    plain = "a;b\n1;2,5\n".encode("utf-8-sig")
    (tmp_path / "x.csv").write_bytes(plain)
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\t2,5\n"))
    for name in ("x.csv", "x.tsv.gz"):
        with open_rows(tmp_path / name, name) as file:
            assert (file.columns, list(file.rows())) == (["a", "b"], [["1", "2,5"]])
    (tmp_path / "bad.csv").write_bytes(b"a,b\n\xff,1\n")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(plain)[:-9])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nothing")
    (tmp_path / "bad.xlsx").write_bytes(b"")
    for name in ("bad.csv", "bad.csv.gz", "bad.parquet", "bad.xlsx"):
        with pytest.raises(ImportUnreadable), open_rows(tmp_path / name, name) as file:
            list(file.rows())


@pytest.mark.parametrize(("rows", "told"), [(0, "near the header"), (200_000, r"near row \d+")])
def test_a_packed_stream_that_is_damaged_is_told_as_such(tmp_path: Path, rows: int, told: str) -> None:
    packer = zlib.compressobj(wbits=31)
    whole = packer.compress(b"a,b\n" + b"1,2\n" * rows) + packer.flush(zlib.Z_FULL_FLUSH) if rows else b""
    rest = bytearray(packer.compress(b"a,b\n3,4\n") + packer.flush())
    rest[0 if rows else 10] |= 0b110  # a kind of block that does not exist
    (tmp_path / "x.csv.gz").write_bytes(whole + rest)
    with pytest.raises(ImportUnreadable, match=told), open_rows(tmp_path / "x.csv.gz", "x.csv.gz") as file:
        list(file.rows())


def test_a_line_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST_ROW", 1000)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" + b"," * 50_000_000 + b"\n"))
    with pytest.raises(ImportUnreadable, match="1000 characters"), open_rows(tmp_path / "x.csv.gz", "x.csv.gz") as file:
        list(file.rows())


@pytest.mark.parametrize(("before", "where"), [("", "the header"), ("a,b\n1,2\n\n3,4\n", "row 3")])
def test_a_row_over_many_lines_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, where: str
) -> None:
    monkeypatch.setattr(files, "_LONGEST_ROW", 1000, raising=False)
    text = before + '"x' + '\nx","x' * 20_000 + '"\n'
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    told = f"{where} has 1000 characters"
    with pytest.raises(ImportUnreadable, match=told), open_rows(tmp_path / "x.csv.gz", "x.csv.gz") as file:
        list(file.rows())


def test_rows_that_are_long_together_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST_ROW", 1000)
    (tmp_path / "x.csv").write_text("a,b\n" + '1,"2\n3"\n\n' * 1000 + "\n" * 2000)
    with open_rows(tmp_path / "x.csv", "x.csv") as file:
        assert [row[1] for row in file.rows()] == ["2\n3"] * 1000


@pytest.mark.parametrize("name", ["x.csv.gz", "x.parquet"])
@pytest.mark.parametrize(("limit", "told"), [("MAX_ROWS", "5000 rows"), ("MAX_BYTES", "100000 bytes when")])
def test_a_small_file_that_becomes_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: str, told: str
) -> None:
    path, count = tmp_path / name, 20_000
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"peptide": ["A" * 90] * count}), path, compression="zstd")
    else:
        path.write_bytes(gzip.compress(b"peptide\n" + (b"A" * 90 + b"\n") * count))
    assert path.stat().st_size < 10_000
    with open_rows(path, name) as file:
        assert sum(1 for _ in file.rows()) == count
    monkeypatch.setattr(files, limit, int(told.split(maxsplit=1)[0]))
    read = 0
    with pytest.raises(ImportTooLarge, match=told), open_rows(path, name) as file:
        for _ in file.rows():
            read += 1
    assert read <= 5000


def test_a_text_that_would_fill_the_memory_is_refused_in_parquet_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LONGEST_FIELD", 1000)
    pyarrow.parquet.write_table(pyarrow.table({"peptide": ["A" * 1001] * 50}), tmp_path / "x.parquet")
    with pytest.raises(ImportUnreadable, match="1000 characters"), open_rows(tmp_path / "x.parquet", "x.parquet") as f:
        list(f.rows())
    monkeypatch.setattr(files, "_LARGEST_GROUP", 100)
    with pytest.raises(ImportTooLarge, match="one group of rows"), open_rows(tmp_path / "x.parquet", "x.parquet"):
        pass


def test_parquet_is_read_and_its_absence_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    columns = {
        "peptide": ["AAA", None, "AAA"], "alleles": [["A*02:01", None, "A*02:01"], [], None],
        "intensity": [1.5, 2.0, None], "nested": [{"a": 1}, None, {"a": 2}],
    }  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with open_rows(path, path.name) as file:
        rows = list(file.rows())
    assert file.columns == ["peptide", "alleles", "intensity"]
    assert rows == [("AAA", ["A*02:01", None, "A*02:01"], 1.5), (None, [], 2.0), ("AAA", None, None)]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DevkitError, match=r"hla-compass-devkit\[parquet\]"), open_rows(path, path.name):
        pass
