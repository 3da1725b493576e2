"""Hostile and unlucky modules on a real server: each run ends in the right state, and nobody else notices."""

# ruff: noqa: E501  bodies of modules read better on one line

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from devkit_api.database.embedded import EmbeddedPostgres
from tests.support.modules import write_module
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process


@attrs.frozen
class Animal:
    """A module's `execute` and how its run has to end."""

    body: str
    status: str
    code: str | None = None
    prelude: str = ""
    runtime: int = 600
    memory: int = 512
    root_only: bool = False


ZOO = {
    "endless": Animal(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timed_out", "RUN_TIMED_OUT", runtime=2,
    ),
    "deaf": Animal(
        "import signal, time\nfor n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM): signal.signal(n, signal.SIG_IGN)\n"
        "while True: time.sleep(600)",
        "timed_out", "RUN_TIMED_OUT", runtime=2,
    ),
    "glutton": Animal("x = bytearray(4 * 1024**3); return self.success(results={})", "failed", "RUN_OUT_OF_MEMORY"),
    "nibbler": Animal(
        "held = []\nwhile True: held.append(bytearray(10 * 1024**2))", "failed", "RUN_OUT_OF_MEMORY", memory=256
    ),
    "fork-bomb": Animal(
        "import os, resource, time\nresource.setrlimit(resource.RLIMIT_NPROC, (60, 60))\nstarted = 0\n"
        "while started < 500:\n    try:\n        pid = os.fork()\n    except OSError:\n        break\n"
        "    if pid == 0:\n        time.sleep(600)\n    started += 1\n"
        "assert started < 500\nreturn self.success(results={'bounded': True})",
        "completed", root_only=True,
    ),
    "shouter": Animal(
        "import os\nfor _ in range(1600): os.write(1, b'x' * 65535 + b'\\n')\nreturn self.success(results={})", "completed"
    ),
    "babbler": Animal(
        "import os\nos.write(1, bytes(range(256)) * 2000 + b'\\xff\\xfe\\x00[/bold]\\n')\nreturn self.success(results={})",
        "completed",
    ),
    "daemon": Animal(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: time.sleep(600)\n"
        "    os._exit(0)\nreturn self.success(results={})",
        "completed",
    ),
    "hoarder": Animal(
        "for n in range(10_000): open(f'file-{n}', 'w').close()\nreturn self.success(results={})", "completed"
    ),
    "big-file": Animal(
        "import os\nwith open('big', 'wb') as f:\n    os.posix_fallocate(f.fileno(), 0, 2 * 1024**3)\n"
        "return self.success(results={})",
        "failed", "MODULE_EXCEPTION",
    ),
    "closer": Animal("import os; os.closerange(0, 1000); return self.success(results={})", "completed"),
    "peeper": Animal(
        "import glob\nfound = []\nfor path in glob.glob('/proc/*/environ'):\n    try:\n        text = open(path).read()\n"
        "    except OSError:\n        continue\n    if input_data['secret'] in text: found.append(path)\n"
        "assert not found, found\nreturn self.success(results={})",
        "completed",
    ),
    "burglar": Animal(
        "import os\nstate = input_data['state']\nfor name in ('credentials.env', 'runs', 'objects', 'run-files', 'modules'):\n"
        "    try:\n        open(os.path.join(state, name)) if '.' in name else os.listdir(os.path.join(state, name))\n"
        "    except OSError:\n        continue\n    raise AssertionError(name)\nreturn self.success(results={})",
        "completed", root_only=True,
    ),
    "vandal": Animal(
        "try:\n    open(__file__, 'a').write('raise SystemExit')\nexcept OSError:\n    return self.success(results={})\n"
        "raise AssertionError",
        "completed", root_only=True,
    ),
    "quitter": Animal("import os; os._exit(0)", "failed", "RUN_NO_OUTPUT"),
    "suicide": Animal("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed", "RUN_KILLED"),
    "scribbler": Animal(
        "import os\nopen(os.environ['HLA_COMPASS_OUTPUT'], 'w').write('not json'); os._exit(0)",
        "failed", "RUN_OUTPUT_INVALID",
    ),
    "giant": Animal(
        "import os\nwith open(os.environ['HLA_COMPASS_OUTPUT'], 'w') as f:\n    f.write('{\"status\": \"success\", \"results\": \"')\n"
        "    for _ in range(200): f.write('x' * 1024**2)\n    f.write('\"}')\nos._exit(0)",
        "failed", "RUN_OUTPUT_TOO_LARGE",
    ),
    "visitor": Animal(
        "import os, socket\ndoor = socket.socket(socket.AF_UNIX)\n"
        "try: door.connect(os.path.join(input_data['sockets'], '.s.PGSQL.5432'))\n"
        "except OSError: return self.success(results={})\nraise AssertionError",
        "completed", root_only=True,
    ),
    "nan": Animal("return self.success(results={'x': float('nan'), 'y': float('inf')})", "completed"),
    "ghost": Animal(
        "import os, time\npid = os.getpid()\nif os.fork() == 0:\n    time.sleep(600)\nos._exit(0)", "failed", "RUN_NO_OUTPUT"
    ),
    "reader": Animal("import sys; assert sys.stdin.read() == ''; return self.success(results={})", "completed"),
    "linker": Animal(
        "import os\nos.symlink('/etc/passwd', os.environ['HLA_COMPASS_OUTPUT']); os._exit(0)", "failed", "RUN_NO_OUTPUT"
    ),
    "importer": Animal("return None", "failed", "MODULE_IMPORT_FAILED", prelude="import no_such_package"),
    "killer-of-parents": Animal(
        "import os, signal\nfor n in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):\n"
        "    try: os.kill(os.getppid(), n)\n    except OSError: pass\n"
        "return self.success(results={})",
        "completed", root_only=True,
    ),
}  # fmt: skip
CALM = "calm"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    """A server with every animal and one ordinary module."""
    root = tmp_path_factory.mktemp("zoo")
    for name, animal in ZOO.items():
        resources = {"memory": animal.memory, "maxRuntimeSeconds": 600}
        write_module(root / "mods" / name, animal.body, prelude=animal.prelude, resources=resources)
    write_module(root / "mods" / CALM, "return self.success(results={'n': input_data['n']})")
    devkit = DevkitProcess(
        root / "devkit", root / "mods", max_file_mb=1024, shutdown_grace=1, workers=3,
        rate_limit_run="off", rate_limit_read="off", catalogs="on",
    )  # fmt: skip
    with devkit:
        yield devkit


def sockets_of(devkit: DevkitProcess) -> str:
    """The folder of the database's socket, which is there."""
    folder = Path(EmbeddedPostgres(devkit.state / "postgres").target.host)
    assert (folder / ".s.PGSQL.5432").exists()
    return str(folder)


@pytest.mark.parametrize("name", list(ZOO))
def test_animal_ends_as_it_must_and_others_are_unaffected(zoo: DevkitProcess, name: str) -> None:
    animal = ZOO[name]
    # Other users' runs have no user of their own. Build machines run the suite as root.
    if animal.root_only and os.geteuid() != 0:
        pytest.skip("needs users of its own for runs, which only root can give")
    hostile = zoo.run(
        name,
        {"secret": TEST_KEY, "state": str(zoo.state), "sockets": sockets_of(zoo)},
        maxRuntimeSeconds=animal.runtime,
    )["runId"]
    calm = [zoo.run(CALM, {"n": n})["runId"] for n in range(3)]
    ended = zoo.wait(hostile, within=4 * PATIENCE)
    code = ended["error"]["code"] if ended["error"] else None
    assert (ended["status"], code) == (animal.status, animal.code), _log(zoo, hostile)
    for n, run_id in enumerate(calm):
        assert zoo.wait(run_id)["status"] == "completed"
        assert zoo.request("GET", f"/v1/module-runs/{run_id}/result").json()["data"]["results"] == {"n": n}
    until(lambda: zoo.request("GET", "/v1/system/ready").status_code == 200)
    # Zygotes come and go beside the runs, and are neither for a moment.
    until(lambda: _left_over(zoo) == [])


def _log(devkit: DevkitProcess, run_id: str) -> str:
    text: str = devkit.request("GET", f"/v1/module-runs/{run_id}/logs").text
    return text[-3000:]


def _forks(devkit: DevkitProcess) -> dict[int, int]:
    """Every process of the devkit's runs, wherever it has gone, with its parent. They are forks of the nursery."""
    mark = str((devkit.state / "lanes").resolve()).encode()
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            if mark in arguments.split(b"\0") or b"=" + mark in environment:
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def _left_over(devkit: DevkitProcess) -> list[int]:
    """Processes that are neither nursery nor zygote nor the one fork a zygote keeps ready."""
    forks = _forks(devkit)
    zygotes = {pid for pid, parent in forks.items() if parent in forks and forks[parent] not in forks}
    spares = {pid: parent for pid, parent in forks.items() if parent in zygotes}
    assert devkit.process is not None
    nursery = {pid for pid, parent in forks.items() if parent == devkit.process.pid}
    doubled = [pid for pid, parent in spares.items() if list(spares.values()).count(parent) > 1]
    return [*(set(forks) - nursery - zygotes - set(spares)), *doubled]


def test_many_runs_of_mixed_fates_with_cancels_each_end_once(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    fates = {
        "fine": "return self.success(results={})",
        "raising": "raise ValueError('no')",
        "silent": "import os; os._exit(3)",
        "lasting": "import time; time.sleep(600)",
        "forking": "import os, time\nif os.fork() == 0: time.sleep(600)\nreturn self.success(results={})",
    }
    for name, body in fates.items():
        write_module(tmp_path / "mods" / name, body, resources={"memory": 512, "maxRuntimeSeconds": 60})
    devkit = make_devkit(
        modules=tmp_path / "mods", workers=4, shutdown_grace=1, rate_limit_run="off", rate_limit_read="off",
        rate_limit_write="off",
    )  # fmt: skip
    with devkit:
        for name in fates:  # every zygote is there before the first count
            devkit.wait(devkit.run(name, maxRuntimeSeconds=_seconds(name))["runId"])
        before = _descriptors(devkit), _memory(devkit)
        with ThreadPoolExecutor(8) as clients:
            ends = list(clients.map(lambda n: _run_one(devkit, list(fates), n), range(500)))
        assert len({run_id for run_id, _ in ends}) == 500
        allowed = {
            "fine": {"completed", "cancelled"}, "raising": {"failed", "cancelled"}, "silent": {"failed", "cancelled"},
            "lasting": {"cancelled", "timed_out"}, "forking": {"completed", "cancelled"},
        }  # fmt: skip
        for run_id, name in ends:
            ended = devkit.wait(run_id, within=2 * PATIENCE)
            assert ended["status"] in allowed[name], (name, ended["error"])
        # More zygotes than before may be warm: as many per module as there are workers, two descriptors each.
        until(lambda: _descriptors(devkit) <= before[0] + 2 * 4 * len(fates) + 8)
        assert _memory(devkit) <= before[1] + 60 * 1024**2
        until(lambda: _left_over(devkit) == [])


def _seconds(name: str) -> int:
    return 3 if name == "lasting" else 60


def _run_one(devkit: DevkitProcess, names: list[str], n: int) -> tuple[str, str]:
    name = names[n % len(names)]
    run_id = devkit.run(name, maxRuntimeSeconds=_seconds(name))["runId"]
    # Every lasting run but a few, and some of the others, are cancelled at once: queued, starting or working.
    if (name == "lasting" and n % 125 != 3) or n % 7 == 0:
        answer = devkit.request("POST", f"/v1/module-runs/{run_id}/cancel")
        assert answer.status_code == 200
    return run_id, name


def _descriptors(devkit: DevkitProcess) -> int:
    assert devkit.process is not None
    return len(list(Path(f"/proc/{devkit.process.pid}/fd").iterdir()))


def _memory(devkit: DevkitProcess) -> int:
    assert devkit.process is not None
    pages = Path(f"/proc/{devkit.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.parametrize(("isolation", "rounds"), [("auto", 5), ("process", 2)], ids=["auto", "process"])
def test_killed_server_leaves_no_orphan_and_accounts_for_every_run(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path, isolation: str, rounds: int
) -> None:
    write_module(
        tmp_path / "mods" / "lasting",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\n"
        "print('working', flush=True); time.sleep(600)",
        resources={"memory": 512, "maxRuntimeSeconds": 600},
    )
    devkit = make_devkit(modules=tmp_path / "mods", workers=8, isolation=isolation, rate_limit_run="off")
    devkit.start()
    for _ in range(rounds):
        with ThreadPoolExecutor(8) as clients:
            run_ids = list(clients.map(lambda _: devkit.run("lasting")["runId"], range(50)))
        _wait_for_some_to_work(devkit, run_ids)
        # Of runs that are only about to begin there may be no process yet.
        old = until(lambda: found if len(found := _forks(devkit)) > 8 else None)
        devkit.kill()
        devkit.start()
        assert all(devkit.request("GET", f"/v1/module-runs/{run_id}").status_code == 200 for run_id in run_ids)
        interrupted = [run_id for run_id in run_ids if _state(devkit, run_id) == ("failed", "RUN_INTERRUPTED")]
        assert len(interrupted) >= 8
        assert not set(old) & set(_forks(devkit))
        devkit.request("POST", "/v1/devkit/reset", json={"confirm": True})
    devkit.stop()
    until(lambda: _forks(devkit) == {})


def _wait_for_some_to_work(devkit: DevkitProcess, run_ids: list[str]) -> None:
    def running() -> list[str]:
        runs = devkit.request("GET", "/v1/module-runs?limit=1000").json()["runs"]
        return [run["runId"] for run in runs if run["status"] == "running" and run["runId"] in run_ids]

    until(lambda: len(running()) >= 8)
    first = running()[0]
    until(lambda: "working" in _log(devkit, first))


def _state(devkit: DevkitProcess, run_id: str) -> tuple[str, str | None]:
    run = devkit.request("GET", f"/v1/module-runs/{run_id}").json()
    return run["status"], (run["error"] or {}).get("code")
