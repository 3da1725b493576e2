"""One run of a devkit that is not root, and what the module could reach, as JSON: `python -m ... FOLDER`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from devkit_api.execution.local import LocalExecutor
from tests.execution.conftest import Bench
from tests.support.waiting import PATIENCE

TRY = """
def attempt(function, *args):
    try:
        return repr(function(*args))[:300]
    except BaseException as exc:
        return type(exc).__name__
"""
SHARED = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
def made(size=1 << 20):
    found = libc.shmget(0, size, 0o1666)
    at = libc.shmat(found, None, 0)
    ctypes.memset(at, 1, size)
    # Given away, as an owner may.
    about = (ctypes.c_char * 256)()
    libc.shmctl(found, 2, about)
    ctypes.c_uint32.from_buffer(about, 4).value = 1
    libc.shmctl(found, 1, about)
    return [found, libc.semget(0, 1, 0o1666), libc.msgget(0, 0o1666)]
def seen():
    return [len(open("/proc/sysvipc/" + kind).readlines()) - 1 for kind in ("shm", "sem", "msg")]
def queue():
    return ctypes.CDLL("librt.so.1").mq_open(b"/devkit-left", 0o102, 0o666, None)
"""
PROBE = """
import ctypes, os, subprocess
state, here = input_data["state"], os.path.dirname(__file__)
unmount = "umount -l " + state + "; cat " + state + "/credentials.env"
return self.success(results={
    "user": os.getuid(), "privileges": open("/proc/self/status").read(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "state": sorted(os.listdir(state)), "home": attempt(os.listdir, input_data["home"]),
    "write": attempt(open, here + "/main.py", "a"), "new": attempt(open, here + "/new.py", "w"),
    "unmount": ctypes.CDLL(None).umount2(state.encode(), 2),
    "nested": subprocess.run(["unshare", "-Urm", "sh", "-c", unmount], capture_output=True, text=True).stdout,
    "zygote": attempt(open, f"/proc/{os.getppid()}/environ"), "shared": made(),
    "memory": [os.listdir("/dev/shm"), open("/dev/shm/devkit-left", "w").name],
})
"""


async def look(root: Path) -> dict[str, object]:
    """The level of isolation, and what the module found."""
    executor = LocalExecutor(
        root / "work", lambda digest: root / "bundles" / digest, kill_grace=0.5, keep_workdirs=False,
        warm_memory_bytes=512 * 1024**2, import_seconds=PATIENCE,
    )  # fmt: skip
    bench = Bench(root, executor)
    (root / "bundles").mkdir(parents=True)
    before = _left()
    (root / "credentials.env").write_text("DEVKIT_API_KEY=secret")
    await executor.open()
    try:
        module = bench.module("prober", PROBE, prelude=TRY + SHARED)
        result = await bench.run(module, {"state": str(root), "home": str(Path.home())})
        found = result.output
        level = executor.pool.isolation.level
        return {"level": level, "devkit": os.getuid(), **found, "text": result.text, "left": sorted(_left() - before)}
    finally:
        await executor.close()


def _left() -> set[str]:
    """Shared memory, semaphores, queues and files this user has made outside of the runs' namespaces."""
    found = {str(path) for path in Path("/dev/shm").glob("devkit-left*")}
    for kind in ("shm", "sem", "msg"):
        names, *rows = (line.split() for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines())
        found |= {f"{kind} {row[1]}" for row in rows if int(row[names.index("cuid")]) == os.getuid()}
    return found


if __name__ == "__main__":
    told = asyncio.run(look(Path(sys.argv[1])))
    namespaces = subprocess.run(
        ["unshare", "-Urmp", "--fork", "--mount-proc", "true"], check=False, capture_output=True
    )
    print(json.dumps({**told, "namespaces": namespaces.returncode == 0}))
