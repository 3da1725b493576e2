"""Two runs of a devkit that is root without namespaces, and what they left, as JSON: `python -m ... FOLDER`.

The way to the interpreter may be closed to other users, so it is opened first, for this process alone: in a mount
namespace, which has shared memory of its own as well.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
from pathlib import Path

from devkit_api.execution.local import LocalExecutor
from devkit_api.execution.zygote import sandbox
from tests.execution.conftest import Bench
from tests.support.ordinary_run import SHARED
from tests.support.ordinary_user import REPO, USER
from tests.support.waiting import PATIENCE

_PR_CAPBSET_DROP = 24
_CAP_SYS_ADMIN = 21


def shared() -> list[str]:
    """Shared memory, semaphores and queues there are."""
    lists = (Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:] for kind in ("shm", "sem", "msg"))
    return [line for lines in lists for line in lines]


async def look(root: Path) -> dict[str, object]:
    """The level of isolation, what each run made and left, and what was there before it."""
    executor = LocalExecutor(
        root / "work", lambda digest: root / "bundles" / digest, kill_grace=0.5, keep_workdirs=False,
        warm_memory_bytes=512 * 1024**2, import_seconds=PATIENCE,
    )  # fmt: skip
    bench = Bench(root, executor)
    (root / "bundles").mkdir(parents=True)
    await executor.open()
    try:
        module = bench.module(
            "sharer", "return self.success(results={'made': made(), 'user': os.getuid()})", prelude="import os" + SHARED
        )
        others = ctypes.CDLL(None).shmget(0, 4096, 0o1600)
        before = shared()
        runs = [(await bench.run(module)).results for _ in range(2)]
        return {"level": executor.pool.isolation.level, "runs": runs, "others": others, "before": before}
    finally:
        await executor.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.chmod(0o755)
    sandbox.furnish(
        {
            "readable": [str(REPO)],
            "writable": [str(folder)],
            "hidden": [],
            "user": USER,
            "temporary": None,
            "shared_mb": 64,
        }
    )
    # As in an ordinary container: what is started from here on is root, and may make no namespaces.
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_ADMIN, 0, 0, 0)
    told = asyncio.run(look(folder / "state"))
    print(json.dumps({**told, "left": shared()}))
