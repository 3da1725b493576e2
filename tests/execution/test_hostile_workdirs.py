"""Modules that put something else where the devkit reads, writes or removes their files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from devkit_api.execution.protocol import Limits, RunSpec
from devkit_api.execution.workdir import Workdir
from devkit_api.runs.failures import conclude
from tests.execution.conftest import Bench
from tests.support.waiting import PATIENCE

SPEC = RunSpec(
    run_id="devkit-run-1", module_id="m", module_version="1.0.0", source_digest="d", entrypoint="e", mode="async",
    payload={"n": 1}, context={"api_key": "token"}, environment={}, limits=Limits(runtime_seconds=1, output_bytes=100),
)  # fmt: skip


@pytest.fixture
async def workdir(tmp_path: Path) -> Workdir:
    (tmp_path / "source").mkdir()
    made = Workdir(tmp_path / "run")
    await made.prepare(tmp_path / "source", SPEC)
    return made


async def test_a_pipe_in_place_of_the_input_holds_up_nobody(bench: Bench) -> None:
    """Opening it would wait for a reader for ever, in one of the few threads all runs share."""
    body = """
    import os
    for name in ("HLA_COMPASS_PAYLOAD", "HLA_COMPASS_CONTEXT"):
        os.unlink(os.environ[name])
        os.mkfifo(os.environ[name])
    return self.success(results={})
    """
    module = bench.module("plumber", body)
    for _ in range(2):
        assert (await bench.run(module)).results == {}


@pytest.mark.parametrize("link", [os.link, os.symlink])
async def test_a_link_in_place_of_the_input_is_neither_emptied_nor_written(
    workdir: Workdir, tmp_path: Path, link: Any
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (workdir.root / "input.json").unlink()
    link(precious, workdir.root / "input.json")
    await workdir.prepare(tmp_path / "source", SPEC)  # in a directory of its own, made anew
    assert json.loads((workdir.root / "input.json").read_text()) == {"n": 1}
    assert precious.read_text() == "mine"
    (workdir.root / "input.json").unlink()
    link(precious, workdir.root / "input.json")
    await workdir.finish(100)
    assert precious.read_text() == "mine"
    await workdir.prepare(tmp_path / "source", SPEC)
    assert json.loads((workdir.root / "input.json").read_text()) == {"n": 1}
    assert precious.read_text() == "mine"


async def test_a_second_name_of_another_file_is_no_output(workdir: Workdir, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    os.link(tmp_path / "secret.json", workdir.root / "out" / "output.json")
    assert await workdir.finish(100) == (None, False)


async def test_a_folder_that_becomes_a_link_while_it_is_tidied_costs_nobody_a_file(
    workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a module left running could exchange it between the look at it and the look into it."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    real, calls = os.scandir, []

    def scandir(where: Any) -> Any:
        if len(calls) == 1:
            (workdir.root / "tmp").rmdir()
            (workdir.root / "tmp").symlink_to(precious)
        calls.append(where)
        return real(where)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        await workdir.finish(100)
    assert len(calls) > 1
    assert (precious / "file").read_text() == "mine"
    assert not workdir.root.exists()


# The modules' own sleeps: they fill the disk little by little, as those do that nobody notices.
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("n = 0\nwhile True:\n    open(f'{n}', 'wb').write(b'x' * 2**20)\n    n += 1\n    time.sleep(0.05)", "8 MiB"),
        ("n = 0\nwhile True:\n    os.makedirs(f'{n}/a')\n    n += 1\n    time.sleep(0.001)", "500 files and folders"),
        (
            "while True:\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n    time.sleep(0.01)",
            "cannot be looked into",
        ),
    ],
    ids=["bytes", "entries", "depth"],
)
async def test_a_run_that_fills_the_disk_is_ended(bench: Bench, body: str, found: str) -> None:
    limits = Limits(PATIENCE, 1024 * 1024, work_bytes=8 * 1024**2, work_entries=500)
    module = bench.module("filler", f"import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{body}")
    outcome = (await bench.run(module, limits=limits)).outcome
    error = conclude(outcome).error
    assert error is not None
    assert error.code == "RUN_DISK_LIMIT"
    assert found in error.details["found"]
    # Long enough to be looked at while it works: the looks come by the clock.
    body = "import time; open('a', 'w').write('x'); time.sleep(1.5); return self.success(results={})"
    modest = bench.module("modest", body)
    assert (await bench.run(modest, limits=limits)).results == {}
    assert not list((bench.root / "lanes").glob("*/run/cwd/[0-9d]*"))
