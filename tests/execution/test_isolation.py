"""What a run can reach, as root: nothing of the devkit and nothing of other runs."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit_api.execution.isolation import FIRST_USER, USERS, Isolation, Level
from devkit_api.execution.protocol import Limits
from devkit_api.execution.scratch import Scratch
from devkit_api.execution.zygote.pool import ZygotePool
from devkit_api.runs.failures import conclude
from tests.execution.conftest import Bench, Listener
from tests.support.ordinary_run import SHARED, TRY
from tests.support.process import REPO
from tests.support.waiting import PATIENCE

# Build machines run the suite as root.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give runs a user of their own")


@needs_root
async def test_run_is_an_unprivileged_user_who_sees_only_its_own(bench: Bench) -> None:
    module = bench.module(
        "prober",
        """
        import ctypes, decimal, os, sqlite3
        return self.success(results={
            "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()],
            "root": attempt(os.setuid, 0), "privileges": open("/proc/self/status").read(),
            "server": attempt(open, f"/proc/{input_data['server']}/environ"),
            "state": attempt(os.listdir, input_data["state"]),
            "credentials": attempt(open, input_data["state"] + "/credentials.env"),
            "write": attempt(open, os.path.join(os.path.dirname(__file__), "main.py"), "a"),
            "zygote": attempt(open, f"/proc/{os.getppid()}/environ"),
            "kill": attempt(os.kill, input_data["server"], 0),
        })
        """,
        prelude=TRY,
    )
    state = bench.root
    (state / "credentials.env").write_text("DEVKIT_API_KEY=secret")
    (state / "runs").mkdir()
    found = (await bench.run(module, {"server": os.getpid(), "state": str(state)})).results
    assert bench.executor.pool.isolation.level is Level.NAMESPACES
    assert set(found["ids"]) == {found["ids"][0]}
    assert found["ids"][0] >= FIRST_USER
    assert "NoNewPrivs:\t1" in found["privileges"]
    assert "CapEff:\t0000000000000000" in found["privileges"]
    assert found["root"] == "PermissionError"
    assert found["server"] == "FileNotFoundError"
    assert found["kill"] in {"ProcessLookupError", "PermissionError"}
    assert found["credentials"] == "FileNotFoundError"
    assert found["zygote"] == "PermissionError"
    assert found["write"] in {"PermissionError", "OSError"}
    assert "credentials.env" not in found["state"]
    assert "runs" not in found["state"]
    assert "lanes" in found["state"]


def test_run_of_an_ordinary_user_sees_only_its_own(tmp_path: Path) -> None:
    """Of a devkit that is no root; where the suite is root's, a process of it becomes somebody else first."""
    folder = tmp_path / "ordinary"
    folder.mkdir()
    program = ("tests.support.ordinary_user", str(folder), "tests.support.ordinary_run", str(folder / "state"))
    done = subprocess.run(
        [sys.executable, "-m", *program], check=False, cwd=REPO, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["devkit"] != 0
    # Some kernels give ordinary users no namespaces. The devkit has to know which this is.
    assert told["level"] == (Level.CONTAINED if told["namespaces"] else Level.PROCESS)
    assert told["status"] == "success", told["text"]
    found = told["results"]
    assert found["user"] == told["devkit"]
    assert "NoNewPrivs:\t1" in found["privileges"]
    assert "CapPrm:\t0000000000000000" in found["privileges"]
    assert (found["unmount"], found["zygote"]) == (-1, "PermissionError")
    if told["namespaces"]:
        assert len(found["processes"]) <= 4
        assert set(found["state"]) <= {"bundles", "lanes"}
        assert "diary.txt" not in found["home"]
        assert {found["write"], found["new"]} == {"OSError"}
        assert found["nested"] == ""
        assert min(found["shared"]) >= 0
        assert found["memory"][0] == []
        assert told["left"] == []


def _shared_here(user: int) -> set[tuple[str, str]]:
    """Shared memory, semaphores and queues that this user has made on this machine."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        names, *rows = (line.split() for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines())
        found |= {(kind, row[1]) for row in rows if int(row[names.index("cuid")]) == user}
    return found


@needs_root
async def test_what_a_run_leaves_in_shared_memory_goes_with_it(bench: Bench) -> None:
    code = """
    before = seen()
    return self.success(results={'before': before, 'ids': made(), 'mq': queue(), 'user': os.getuid()})
    """
    first, second = (bench.module(name, code, prelude="import os\n" + SHARED) for name in ("sharer", "neighbour"))
    for module in (first, first, second):
        found = (await bench.run(module)).results
        assert min(found["ids"]) >= 0
        assert found["mq"] == -1
        assert found["before"] == [0, 0, 0]
        assert _shared_here(found["user"]) == set()


LEAVES_FILES = """
import os
from multiprocessing import resource_tracker, shared_memory

def leave():
    before = sorted(os.listdir("/dev/shm"))
    block = shared_memory.SharedMemory(create=True, size=1024)
    resource_tracker.unregister(block._name, "shared_memory")
    os.makedirs("/dev/shm/devkit-test/closed/deep")
    open("/dev/shm/devkit-test/closed/file", "w").close()
    os.symlink("/", "/dev/shm/devkit-test-link")
    os.chmod("/dev/shm/devkit-test/closed", 0)
    return before
"""


@needs_root
async def test_files_in_shared_memory_go_with_their_run_and_never_reach_the_machine(bench: Bench) -> None:
    code = "return self.success(results={'before': leave(), 'user': os.getuid()})"
    first, second = (bench.module(name, code, prelude=LEAVES_FILES) for name in ("sharer", "neighbour"))
    runs = [await bench.run(module) for module in (first, first, second)]
    assert [run.results["before"] for run in runs] == [[]] * 3
    assert runs[1].outcome.metrics.warm
    users = {run.results["user"] for run in runs}
    assert not [entry.name for entry in os.scandir("/dev/shm") if _owner_of(entry) in users]


def _owner_of(entry: os.DirEntry[str]) -> int | None:
    """Whose it is; other programs of this machine remove theirs at any time."""
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None


@needs_root
async def test_shared_memory_is_as_large_as_the_memory_of_a_run(bench: Bench) -> None:
    code = "import os; found = os.statvfs('/dev/shm'); return self.success(results=found.f_blocks * found.f_frsize)"
    module = bench.module("measurer", code)
    limits = Limits(PATIENCE, 1024 * 1024, memory_mb=300)
    assert (await bench.run(module, limits=limits)).results == 300 * 1024**2


@needs_root
@pytest.mark.parametrize("name", ["deep", "d"])  # too long a name for the kernel, or too deep for what recurses
async def test_what_cannot_be_removed_from_shared_memory_costs_the_zygote(bench: Bench, name: str) -> None:
    deep = f"    os.chdir('/dev/shm')\n    for _ in range(3000):\n        os.mkdir({name!r}); os.chdir({name!r})\n"
    code = "if input_data['deep']:\n" + deep + "return self.success(results=os.listdir('/dev/shm'))"
    module = bench.module("digger", code, prelude="import os")
    digger = await bench.run(module, {"deep": True})
    assert (digger.outcome.exit_code, digger.results) == (0, [name])
    assert (await bench.run(module, {"deep": False})).results == []


@needs_root
def test_what_a_run_leaves_in_shared_memory_goes_with_it_where_there_are_no_namespaces(tmp_path: Path) -> None:
    """Of its user alone: what others of the machine have made stays."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.user_level_run", str(tmp_path)], check=False, cwd=REPO,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["level"] == Level.USER
    assert told["others"] >= 0
    for run in told["runs"]:
        assert run["user"] >= FIRST_USER
        assert min(run["made"]) >= 0
    assert len(told["before"]) == 1
    assert told["left"] == told["before"]


async def test_a_file_that_was_changed_is_noticed_whatever_times_it_has(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "tmp", None)
    kept = scratch.make() / "kept"
    kept.write_text("of the import")
    before = kept.stat()
    await scratch.note()
    assert await scratch.is_as_noted()
    kept.write_text("of a run, too")
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (kept.stat().st_size, kept.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert not await scratch.is_as_noted()


PLACES = """
import os
def names():
    return {place: sorted(os.listdir(place)) for place in ("/tmp", "/var/tmp", "/dev/shm")}
"""


@needs_root
async def test_shared_folders_of_the_machine_are_the_modules_own_and_empty_for_each_run(bench: Bench) -> None:
    marker = f"marker-{os.getpid()}"
    code = """
    before = names()
    for place in input_data["places"]:
        open(f"{place}/{input_data['marker']}", "w").write("x")
    return self.success(results={"before": before, "after": names()})
    """
    module = bench.module("litterer", code, prelude=PLACES)
    clean = (await bench.run(module, {"places": []})).results["before"]
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        result = await bench.run(module, {"places": [place], "marker": marker})
        assert marker in result.results["after"][place]
        assert not Path(place, marker).exists(), "on the machine"
        result = await bench.run(module, {"places": []})
        assert result.results["before"] == clean, "of an earlier run"
    # One that leaves nothing keeps its process warm.
    assert (await bench.run(module, {"places": []})).outcome.metrics.warm
    neighbour = bench.module("neighbour", code, prelude=PLACES)
    assert marker not in str((await bench.run(neighbour, {"places": []})).results)


@needs_root
@pytest.mark.parametrize("place", ["/tmp", "/var/tmp"])
async def test_what_a_run_writes_to_shared_folders_counts_for_its_disk(bench: Bench, place: str) -> None:
    # The module's own sleep: it fills the disk little by little, as those do that nobody notices.
    body = "n = 0\nwhile True:\n    open(f'{0}/{n}', 'wb').write(b'x' * 2**20)\n    n += 1\n    time.sleep(0.05)"
    module = bench.module("filler", "import time\n" + body.replace("{0}", place))
    limits = Limits(PATIENCE, 1024 * 1024, work_bytes=8 * 1024**2)
    error = conclude((await bench.run(module, limits=limits)).outcome).error
    assert error is not None
    assert error.code == "RUN_DISK_LIMIT"
    assert not list((bench.root / "lanes").glob("*/tmp/[0-9]"))


@needs_root
async def test_shared_memory_of_a_run_is_bounded_whole_by_its_memory(bench: Bench) -> None:
    code = """
    import errno, os
    written, number = 0, None
    try:
        for n in range(80):
            with open(f"/dev/shm/{n}", "wb") as file:
                written += file.write(bytes(4 * 2**20))
    except OSError as exc:
        number = exc.errno
    room = os.statvfs("/dev/shm")
    return self.success(results={"errno": number, "written": written, "size": room.f_blocks * room.f_frsize})
    """
    limits = Limits(PATIENCE, 1024 * 1024, memory_mb=256)
    found = (await bench.run(bench.module("sharer", code), limits=limits)).results
    assert found["errno"] == errno.ENOSPC
    assert found["size"] == 256 * 1024**2
    assert 200 * 1024**2 < found["written"] <= 256 * 1024**2


@needs_root
async def test_concurrent_runs_are_different_users(bench: Bench) -> None:
    module = bench.module("twin", "import os; return self.success(results={'user': os.getuid()})")
    one, two = await asyncio.gather(bench.run(module), bench.run(module))
    assert one.results["user"] != two.results["user"]


@needs_root
def test_devkits_beside_each_other_begin_with_different_users(tmp_path: Path) -> None:
    """Two with the same users would share the number of processes those may have, and what is theirs."""
    pools = [
        ZygotePool(tmp_path / f"{n}" / "lanes", lambda _: tmp_path, memory_bytes=0, import_seconds=1) for n in range(20)
    ]
    for pool in pools:
        pool.isolation = Isolation(Level.USER, tmp_path)
    users = [pool._next_place()[1] for pool in pools]
    assert len(set(users)) > 10
    assert all(FIRST_USER <= user < FIRST_USER + USERS for user in users if user is not None)
    assert None not in users


async def test_limits_of_the_manifest_and_the_settings_hold(bench: Bench) -> None:
    module = bench.module(
        "limited",
        "import resource as r; return self.success(results={n: r.getrlimit(getattr(r, 'RLIMIT_' + n)) "
        "for n in ('DATA', 'NOFILE', 'FSIZE', 'CORE', 'CPU')})",
    )
    limits = Limits(PATIENCE, 1024 * 1024, memory_mb=300, open_files=77, file_bytes=12345)
    found = (await bench.run(module, limits=limits)).results
    assert found["DATA"] == [300 * 1024**2] * 2
    assert (found["NOFILE"], found["FSIZE"], found["CORE"]) == ([77, 77], [12345, 12345], [0, 0])
    cores = os.cpu_count() or 1
    assert PATIENCE * cores < found["CPU"][0] < (PATIENCE + 60) * cores


async def test_work_directory_does_not_carry_anything_over(bench: Bench) -> None:
    module = bench.module(
        "litterer",
        """
        import os
        seen = sorted(os.path.join(at, name) for at, folders, names in os.walk("..") for name in folders + names)
        if input_data["litter"]:
            os.makedirs("deep/er"); open("deep/er/file", "w").close(); os.chmod("deep", 0)
            open("../home/.bashrc", "w").close(); os.unlink("manifest.json"); os.symlink("/etc/passwd", "manifest.json")
            os.chmod("../tmp", 0o777); os.rename("../scratch", "../moved")
        return self.success(results={"seen": seen})
        """,
    )
    first = (await bench.run(module, {"litter": False})).results["seen"]
    assert (await bench.run(module, {"litter": True})).results["seen"] == first
    assert (await bench.run(module, {"litter": False})).results["seen"] == first


async def test_file_linked_to_a_second_name_is_not_used_again(bench: Bench) -> None:
    module = bench.module(
        "linker",
        "import os; seen = os.stat('../input.json').st_nlink; os.link('../input.json', '../tmp/mine'); "
        "os.unlink('../tmp/mine') if input_data.get('tidy') else None\n"
        "return self.success(results={'links': seen})",
    )
    for tidy in (False, True, False):
        assert (await bench.run(module, {"tidy": tidy})).results == {"links": 1}


async def test_kept_work_directory_is_named_after_its_run(make_bench: Any) -> None:
    bench: Bench = await make_bench(keep_workdirs=True)
    module = bench.module("kept", "open('mine.txt', 'w').write('x'); return self.success(results={})")
    await bench.run(module)
    await bench.run(module)
    kept = sorted((bench.root / "work").iterdir())
    assert [folder.name for folder in kept] == ["devkit-run-1", "devkit-run-2"]
    assert all((folder / "cwd" / "mine.txt").exists() for folder in kept)


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_nothing_a_run_starts_outlives_it(make_bench: Any, isolation: str) -> None:
    bench: Bench = await make_bench(isolation=isolation)
    marker = f"marker-{os.getpid()}"
    module = bench.module(
        "daemon",
        """
        import os, subprocess, sys
        code = "import os, time\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\ntime.sleep(600)"
        for _ in range(3):
            subprocess.run([sys.executable, "-c", code, input_data["marker"]])
        return self.success(results={})
        """,
    )
    assert (await bench.run(module, {"marker": marker})).outcome.exit_code == 0
    assert _with_argument(marker) == []


def _with_argument(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def test_metrics_tell_processor_time_and_memory(bench: Bench) -> None:
    module = bench.module(
        "worker", "x = bytearray(80 * 1024**2)\nx[::4096] = b'1' * len(x[::4096])\nreturn self.success(results={})"
    )
    metrics = (await bench.run(module)).outcome.metrics
    assert metrics.cpu_seconds and metrics.cpu_seconds > 0
    assert metrics.peak_memory_bytes and metrics.peak_memory_bytes > 80 * 1024**2
    assert metrics.launch_seconds is not None
    assert metrics.execute_seconds is not None


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_stop_reaches_a_run_that_ignores_it(make_bench: Any, isolation: str) -> None:
    bench: Bench = await make_bench(isolation=isolation)
    from devkit_api.execution.protocol import StopReason

    module = bench.module(
        "deaf",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf now', flush=True)\n"
        "while True:\n    time.sleep(600)",
    )
    is_deaf = asyncio.Event()
    listener = Listener(on_text=lambda text: is_deaf.set() if "deaf now" in text else None)
    execution = await bench.launch(bench.spec(module), listener)
    await is_deaf.wait()
    execution.stop(StopReason.CANCEL)
    outcome = await execution.wait()
    assert (outcome.stopped, outcome.signal) == (StopReason.CANCEL, 9)


async def test_module_that_writes_to_its_own_source_changes_no_later_run(make_bench: Any) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module(
        "vandal",
        """
            import os
            here = os.path.dirname(__file__)
            from backend import late
            found = late.WORD, open(os.path.join(here, "data.txt")).read(), sorted(os.listdir(here))
            if input_data["strike"]:
                os.chmod(here, 0o700)
                for name, text in (("late.py", "WORD = 'changed'"), ("data.txt", "changed"), ("new.py", "")):
                    if os.path.exists(os.path.join(here, name)):
                        os.chmod(os.path.join(here, name), 0o600)
                    open(os.path.join(here, name), "w").write(text)
            return self.success(results={"found": found})
            """,
        files={"backend/late.py": "WORD = 'registered'", "backend/data.txt": "registered"},
    )
    first = (await bench.run(module, {"strike": True})).results
    assert first["found"][:2] == ["registered", "registered"]
    for _ in range(2):
        assert (await bench.run(module, {"strike": True})).results == first


async def test_runs_that_begin_at_once_find_their_source(make_bench: Any) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module(
        "crowd", "return self.success(results={})", files={f"backend/f{n}.txt": "x" for n in range(200)}
    )
    results = await asyncio.gather(*(bench.run(module) for _ in range(8)))
    assert [result.outcome.exit_code for result in results] == [0] * 8, [result.outcome for result in results]


async def test_bundle_that_was_changed_is_refused_and_not_run(make_bench: Any) -> None:
    bench: Bench = await make_bench(isolation="process")
    module = bench.module("original", "return self.success(results={'ran': True})")
    (bench.root / "bundles" / module / "backend" / "main.py").write_text("print('evil')")
    result = await bench.run(module)
    assert result.outcome.output is None
    assert "register it again" in str(result.outcome.problem)
    assert "evil" not in result.text


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_flood_of_line_ends_is_passed_on_in_bounded_pieces(make_bench: Any, isolation: str) -> None:
    bench: Bench = await make_bench(isolation=isolation)
    module = bench.module("flood", "import os; os.write(1, b'\\n' * 60_000)\nreturn self.success(results={})")
    pieces: list[int] = []
    listener = Listener(on_data=lambda data: pieces.append(data.count(b"\n")))
    outcome = await (await bench.launch(bench.spec(module), listener)).wait()
    assert outcome.exit_code == 0
    assert sum(pieces) >= 60_000
    assert max(pieces) <= 256
