"""A warm run is to a module what `python -m hla_compass.runtime.runner` is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from devkit_api.execution.isolation import Level
from devkit_api.execution.zygote import pool
from devkit_api.execution.zygote.lane import Kind
from tests.execution.conftest import Bench
from tests.support.waiting import PATIENCE, until_async


async def test_two_runs_share_a_zygote_and_nothing_else(bench: Bench) -> None:
    module = bench.module(
        "sharing",
        """
        import os, tempfile, random
        COUNTER.append(1)
        open("left.txt", "w").write("x")
        open(tempfile.gettempdir() + "/left.txt", "w").write("x")
        return self.success(results={"parent": os.getppid(), "pid": os.getpid(), "count": len(COUNTER),
                                     "files": sorted(os.listdir(".")), "random": random.random(),
                                     "temporary": tempfile.gettempdir(), "run": os.environ["HLA_COMPASS_RUN_ID"]})
        """,
        prelude="COUNTER = []",
    )
    one, two = [(await bench.run(module)).results for _ in range(2)]
    assert one["parent"] == two["parent"]
    assert one["pid"] != two["pid"]
    assert (one["count"], two["count"]) == (1, 1)
    assert one["files"] == two["files"] == ["backend", "left.txt", "manifest.json"]
    assert one["random"] != two["random"]
    assert one["run"] != two["run"]


async def test_process_of_a_run_holds_nothing_of_the_devkit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVKIT_API_KEY", "do-not-leak")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-leak-either")
    module = bench.module(
        "looker",
        """
        import os, sys
        return self.success(results={
            "modules": [name for name in sys.modules if name.split(".")[0] == "devkit_api"],
            "descriptors": {fd: os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                            if os.path.exists(f"/proc/self/fd/{fd}")},
            "environment": dict(os.environ),
            "stdin": sys.stdin.read(), "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path[0],
            "main": sys.modules["__main__"].__spec__.name, "session": os.getsid(0) == os.getpid(),
        })
        """,
    )
    found = (await bench.run(module, environment={"GREETING": "hello", "DEVKIT_X": "1", "HOME": "/elsewhere"})).results
    assert found["modules"] == []
    kinds = {fd: kind for fd, kind in found["descriptors"].items() if int(fd) > 2 and not kind.startswith("/proc")}
    assert kinds == {}
    assert found["descriptors"]["0"] == "/dev/null"
    assert found["descriptors"]["1"] == found["descriptors"]["2"] == "pipe"
    assert "do-not-leak" not in json.dumps(found["environment"])
    assert found["environment"]["GREETING"] == "hello"
    assert found["environment"]["HOME"] != "/elsewhere"
    assert not [name for name in found["environment"] if name.startswith("DEVKIT_")]
    assert (found["stdin"], found["argv"], found["path"]) == ("", ["module-runner"], found["cwd"])
    assert found["main"] == "hla_compass.runtime.runner"
    assert found["session"] is True


@pytest.mark.parametrize(
    ("body", "code", "number", "has_output"),
    [
        ("return self.success(results={})", 0, None, True),
        ("raise ValueError('no')", 1, None, True),
        ("import sys; sys.exit(7)", 7, None, False),
        ("import sys; sys.exit('a word')", 1, None, False),
        ("import sys; sys.exit()", 0, None, False),
        ("import os; os._exit(0)", 0, None, False),
        ("raise KeyboardInterrupt", None, signal.SIGINT, False),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, signal.SIGSEGV, False),
    ],
)
async def test_exit_is_the_interpreters(
    bench: Bench, body: str, code: int | None, number: int | None, has_output: bool
) -> None:
    outcome = (await bench.run(bench.module("ending", body))).outcome
    assert (outcome.exit_code, outcome.signal, outcome.output is not None) == (code, number, has_output)


async def test_end_of_the_interpreter_is_kept(bench: Bench) -> None:
    module = bench.module(
        "ender",
        """
        import atexit, threading, time
        atexit.register(lambda: print("at exit"))
        event = threading.Event()
        threading.Thread(target=lambda: (event.wait(), print("thread joined"))).start()
        threading.Timer(0.05, event.set).start()
        self.kept = open("/proc/self/fd/1", "w")
        self.kept.write("never flushed by the module\\n")
        HELD.append(self.kept)
        return self.success(results={})
        """,
        prelude="HELD = []",
    )
    text = (await bench.run(module)).text
    assert "thread joined" in text
    assert text.index("thread joined") < text.index("at exit")
    assert "never flushed by the module" in text


async def test_what_a_module_prints_and_logs_at_import_is_in_every_run(bench: Bench) -> None:
    module = bench.module(
        "chatty",
        "self.logger.info('inside'); return self.success(results={})",
        prelude="import logging\nprint('printed at import')\nlogging.getLogger('own').warning('logged at import')\n"
        "logging.basicConfig(format='CHANGED %(message)s')",
    )
    for _ in range(2):
        lines = (await bench.run(module)).text.splitlines()
        assert lines.count("printed at import") == 1
        records = [json.loads(line) for line in lines if line.startswith("{")]
        assert [r["message"] for r in records].count("logged at import") == 1
        (inside,) = [r for r in records if r["message"] == "inside"]
        assert inside["run_id"] == f"devkit-run-{bench.count}"
        assert "CHANGED" not in "".join(lines)


async def test_seed_set_at_import_is_every_runs_seed(bench: Bench) -> None:
    module = bench.module(
        "seeded", "return self.success(results={'n': random.random()})", prelude="import random\nrandom.seed(42)"
    )
    assert len({(await bench.run(module)).results["n"] for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("prelude", "reason"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "thread"),
        ("import socket\nHELD = socket.socket()", "socket"),
        ("HELD = open('/dev/zero')", "file"),
        ("import subprocess\nHELD = subprocess.Popen(['sleep', '600'])", "process"),
        ("import os\nWHERE = os.environ['HLA_COMPASS_RUN_ID']", "raises KeyError"),
        ("import os\nWHERE = os.environ.get('HLA_API_ENDPOINT')", "reads HLA_API_ENDPOINT"),
        ("import os, sys\nif not os.environ.get('HLA_COMPASS_' + 'RUN_ID'): os._exit(3)", "ends the process"),
        ("import os, time\nif 'HLA_COMPASS_RUN_ID' not in os.environ: time.sleep(600)", "takes longer"),
        ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 600)", "timer"),
    ],
    ids=["thread", "socket", "file", "child", "environment", "quiet environment", "exit", "slow", "timer"],
)
async def test_module_that_cannot_be_forked_faithfully_imports_itself_in_each_run(
    make_bench: Any, caplog: pytest.LogCaptureFixture, prelude: str, reason: str
) -> None:
    bench: Bench = await make_bench(import_seconds=3.0 if reason == "takes longer" else PATIENCE)
    module = bench.module("unfit", "return self.success(results={'name': __name__})", prelude=prelude)
    for _ in range(2):
        assert (await bench.run(module)).results == {"name": "backend.main"}
    (record,) = [r for r in caplog.records if "not kept warm" in r.message]
    assert reason in record.reason  # type: ignore[attr-defined]


async def test_import_error_is_the_runs_own(bench: Bench) -> None:
    result = await bench.run(bench.module("broken", "return None", prelude="import not_there_at_all"))
    assert result.outcome.exit_code == 1
    assert result.output["error"]["type"] == "DependencyError"
    assert "not_there_at_all" in result.output["error"]["message"]


async def test_variables_for_the_interpreter_get_a_new_one(bench: Bench) -> None:
    module = bench.module("hashing", "import sys; return self.success(results={'n': sys.flags.hash_randomization})")
    assert (await bench.run(module, environment={"PYTHONHASHSEED": "0"})).results == {"n": 0}
    assert (await bench.run(module)).results == {"n": 1}


async def test_killed_zygote_costs_its_run_and_no_other(make_bench: Any) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module(
        "patricide",
        "import os, signal, time\n"
        "if input_data.get('kill'):\n    os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)\n"
        "return self.success(results={'parent': os.getppid()})",
    )
    assert (await bench.run(module)).outcome.exit_code == 0
    struck = await bench.run(module, {"kill": True})
    assert (struck.outcome.output, struck.outcome.signal) == (None, signal.SIGKILL)
    assert (await bench.run(module)).outcome.exit_code == 0


async def test_changed_source_is_in_the_next_run(bench: Bench) -> None:
    first, second = (bench.module(name, f"return self.success(results={{'n': {name!r}}})") for name in ("v1", "v2"))
    assert (await bench.run(first)).results == {"n": "v1"}
    assert (await bench.run(second)).results == {"n": "v2"}
    assert bench.executor.pool.size == 1


async def test_warm_memory_is_bounded(make_bench: Any) -> None:
    bench: Bench = await make_bench(warm_memory_bytes=0)
    module = bench.module("fleeting", "return self.success(results={})")
    assert (await bench.run(module)).outcome.exit_code == 0
    assert bench.executor.pool.size == 0


async def test_closing_leaves_no_process_and_no_descriptor(make_bench: Any) -> None:
    children, descriptors = _children(os.getpid()), _descriptors()
    bench: Bench = await make_bench()
    assert (await bench.run(bench.module("last", "return self.success(results={})"))).outcome.exit_code == 0
    await bench.executor.close()
    # What earlier tests have left may go meanwhile.
    await until_async(lambda: _children(os.getpid()) <= children and _descriptors() <= descriptors)
    assert not list((bench.root / "lanes").iterdir())


def _descriptors() -> set[tuple[str, str]]:
    """Each with what it is of."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add((path.name, str(path.readlink())))
    return found


def _children(pid: int) -> set[int]:
    return {process.pid for process in psutil.Process(pid).children()}


async def test_prewarmed_module_has_its_first_run_warm(bench: Bench) -> None:
    module = bench.module("early", "return self.success(results={})")
    spec = bench.spec(module)
    bench.executor.prewarm(Kind.of(spec))
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*bench.executor._warming)
    (lane,) = bench.executor.pool.lanes
    assert lane.kind == Kind.of(spec)
    metrics = (await bench.run(module)).outcome.metrics
    assert (metrics.warm, metrics.import_seconds) == (True, None)


async def test_first_run_tells_how_long_its_import_took_and_the_next_is_warm(bench: Bench) -> None:
    # The time is the thing here: an import that takes so long has to be told as one that took no less.
    module = bench.module("slow", "return self.success(results={})", prelude="import time; time.sleep(0.2)")
    first, second = [(await bench.run(module)).outcome.metrics for _ in range(2)]
    assert first.warm is False
    assert first.import_seconds and first.launch_seconds
    assert 0.2 <= first.import_seconds <= first.launch_seconds
    assert (second.warm, second.import_seconds) == (True, None)


async def test_namespaces_that_are_asked_for_and_not_there_let_nothing_run(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "choose_level", lambda **_: Level.PROCESS)
    bench: Bench = await make_bench(isolation="namespaces")
    result = await bench.run(bench.module("open", "print('ran'); return self.success(results={})"))
    assert "DEVKIT_ISOLATION" in str(result.outcome.problem)
    assert result.text == ""


async def test_run_that_was_handed_over_is_not_run_a_second_time(make_bench: Any, tmp_path: Path) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module(
        "striker",
        "import os, signal, time\nopen(input_data['marks'], 'a').write('x')\n"
        "if input_data['strike']:\n    os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)\n"
        "return self.success(results={})",
    )
    marks = tmp_path / "marks"
    for strike in (False, True, False):
        await bench.run(module, {"marks": str(marks), "strike": strike})
    assert marks.read_text() == "xxx"


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_bundle_that_was_removed_and_came_back_is_the_one_that_runs(make_bench: Any, isolation: str) -> None:
    bench: Bench = await make_bench(isolation=isolation)
    module = bench.module("again", "return self.success(results={'text': open('manifest.json').read()[:1]})")
    assert (await bench.run(module)).results == {"text": "{"}
    bundle = bench.root / "bundles" / module
    shutil.copytree(bundle, bench.root / "copy")
    shutil.rmtree(bundle)
    (bench.root / "copy").rename(bundle)
    assert (await bench.run(module)).results == {"text": "{"}
    assert bench.executor.pool.size == 1
