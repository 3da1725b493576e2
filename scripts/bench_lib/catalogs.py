"""Typed reads of a catalog: against bare aiopg running the same statement, and small against large."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import aiopg
import psycopg2
import uvloop

from bench_lib import servers
from bench_lib.load import Load, measure
from bench_lib.machine import cores, pin
from bench_lib.report import Row, ratio_row
from devkit_api.catalogs.entities import PEPTIDES, page_statement
from devkit_api.catalogs.reads import parse
from devkit_api.database.embedded import EmbeddedPostgres

SMALL = 10_000
UNASKED = 100_000  # generated in a minute or two
MEANT = 1_000_000  # what the targets are for
SAMPLES = 200
CLIENTS = 8
ASKED = {"length": "9", "limit": "100", "count": "false"}
PATH = "/v1/api/data/devkit/synthetic/peptides?" + "&".join(f"{name}={value}" for name, value in ASKED.items())


def typed_reads(rounds: int, seconds: float, asked: int | None, data: Path | None) -> list[Row]:
    """100 peptides by an indexed filter, of a large catalog and of a small one."""
    peptides = size_of(asked, data)
    with _folder(data) as folder, ExitStack() as stack:
        roots = {count: _generated(folder, count) for count in (SMALL, peptides)}
        running = {count: stack.enter_context(servers.devkit(root, CATALOGS="on")) for count, root in roots.items()}
        loads: dict[int, list[Load]] = {count: [] for count in running}
        bare: list[float] = []
        for _ in range(rounds):
            bare.append(_bare_rate(roots[peptides], seconds))
            for count, server in running.items():
                loads[count].append(measure(server.endpoint, "GET", PATH, seconds=seconds, clients=CLIENTS))
    ratios = [load.rate / rate for load, rate in zip(loads[peptides], bare, strict=True)]
    small, large = (sorted(load.p99 for load in loads[count])[rounds // 2] * 1000 for count in (SMALL, peptides))
    growth = large / small
    notes = "" if peptides >= MEANT else f"The target is for {MEANT} peptides (--peptides {MEANT})."
    return [
        ratio_row(f"Typed read of 100 of {peptides} peptides, of bare aiopg with the same SQL", ratios, 0.5, notes),
        Row(f"Typed read, p99 with {peptides} peptides to p99 with {SMALL}", f"{growth:.2f}", "≤ 1.50", growth <= 1.5,
            f"p99 {large:.1f} ms and {small:.1f} ms at {CLIENTS} clients. {notes}".strip(),
            {"ratio": growth, "small_p99_ms": small, "large_p99_ms": large}),
    ]  # fmt: skip


def size_of(asked: int | None, data: Path | None) -> int:
    """How many peptides: as asked, or as the largest catalog that was made before has."""
    made = data.glob("p*/state/postgres/data") if data is not None else ()
    sizes = [folder.parents[2].name.removeprefix("p") for folder in made]
    large = [int(size) for size in sizes if size.isdigit() and int(size) > SMALL]
    return asked or max(large, default=UNASKED)


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _generated(folder: Path, peptides: int) -> Path:
    """A state directory with a synthetic catalog of this size; made unless it is there."""
    root = folder / f"p{peptides}"
    if (root / "state" / "postgres" / "data").exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    environment = servers.environment(root, CATALOGS="on")
    command = [sys.executable, "-m", "devkit_api", "catalog", "generate", "--peptides", str(peptides)]
    subprocess.run([*command, "--samples", str(SAMPLES)], env=environment, check=True)
    return root


def _bare_rate(root: Path, seconds: float) -> float:
    """Answers per second of the very statement through bare aiopg, in a process on the devkit's own core."""
    command = [sys.executable, "-m", "bench_lib.catalogs", str(root), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        pin(client.pid, cores()[0])
        seen, _ = client.communicate(timeout=seconds + 60)
    if client.returncode != 0:
        raise RuntimeError("bare aiopg broke off")
    return float(seen)


async def _rate(root: Path, seconds: float) -> float:
    """By `CLIENTS` tasks on aiopg connections of their own."""
    target = EmbeddedPostgres(root / "state" / "postgres").target
    with psycopg2.connect(**target.owner()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT segments FROM devkit.catalog_versions v JOIN devkit.catalogs USING (catalog_id)"
            " WHERE catalog_key = 'synthetic' ORDER BY ready_at DESC LIMIT 1"
        )
        statement = page_statement(PEPTIDES, parse(PEPTIDES, ASKED), cursor.fetchone()[0])
    connection.close()
    async with aiopg.create_pool(minsize=CLIENTS, maxsize=CLIENTS, **target.owner()) as pool:
        started = perf_counter()
        answers = await asyncio.gather(*(_ask(pool, statement, started + seconds) for _ in range(CLIENTS)))
        return sum(answers) / (perf_counter() - started)


async def _ask(pool: Any, statement: Any, deadline: float) -> int:
    answers = 0
    async with pool.acquire() as connection, connection.cursor() as cursor:
        while perf_counter() < deadline:
            await cursor.execute(statement.text, statement.values)
            if len(await cursor.fetchall()) != int(ASKED["limit"]):
                raise RuntimeError("the statement answered another number of rows")
            answers += 1
    return answers


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_rate(Path(sys.argv[1]), float(sys.argv[2]))))
