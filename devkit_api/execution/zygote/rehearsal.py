"""Work done once in a process that is forked, so that no run has to do it again. Standard library only.

A run begins as a copy of its zygote. What it writes to costs it a page each, and what it computes for the first time
(patterns, validators, the interpreter's own caches) it computes for the first time in every run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import Any

_TIMES = 10  # the interpreter adapts its code within the first eight calls
_NAME = "_devkit_zygote_rehearsal"
# What `sys._debugmallocstats` prints of the allocator's size classes: number, size, pools, blocks used, blocks free.
_COLUMNS, _SIZE, _FREE = 5, 1, 4
_LARGEST_HOLES = 4 * 1024**2


def rehearse() -> None:
    """Have the SDK's runner execute a module that does nothing. No code of a user is involved, and nothing is kept."""
    with contextlib.suppress(Exception), _as_it_was(), tempfile.TemporaryDirectory() as folder:
        _prepare(folder)
        runner = sys.modules["hla_compass.runtime.runner"]
        for _ in range(_TIMES):
            logging.getLogger().handlers[:] = []
            runner.main()


def _prepare(folder: str) -> None:
    sdk = sys.modules["hla_compass"]

    class Nothing(sdk.Module):  # type: ignore[name-defined,misc]
        def execute(self, input_data: Any, context: Any) -> Any:
            return self.success(results={"nothing": [0]})

    module = types.ModuleType(_NAME)
    module.Nothing = Nothing  # type: ignore[attr-defined]
    sys.modules[_NAME] = module
    sys.argv[:] = ["module-runner"]
    os.chdir(folder)
    ids = dict.fromkeys(("run_id", "job_id", "module_id", "user_id", "organization_id", "correlation_id"), "rehearsal")
    files = {
        "manifest.json": {
            "schemaVersion": "1.0", "name": "rehearsal", "version": "1.0.0", "type": "no-ui",
            "inputs": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "execution": {"entrypoint": f"{_NAME}:Nothing", "supports": ["interactive"]},
        },
        "input.json": {"n": 1},
        "context.json": {
            **ids, "module_version": "1.0.0", "environment": "local", "roles": ["developer"], "mode": "interactive",
            "requested_at": "2026-01-01T00:00:00Z", "module_run_api_key": "hla_runtoken_rehearsal",
            "platform_api_base_url": "http://127.0.0.1:9",
        },
    }  # fmt: skip
    for name, content in files.items():
        with open(name, "w", encoding="utf-8") as file:
            json.dump(content, file)
    names = {"PAYLOAD": "input.json", "CONTEXT": "context.json", "OUTPUT": "output.json", "SUMMARY": "summary.json"}
    os.environ.update({f"HLA_COMPASS_{name}": f"{folder}/{file}" for name, file in names.items()})
    os.environ.update(
        HOME=folder, HLA_COMPASS_CONFIG_DIR=folder, HLA_COMPASS_WORKDIR=folder, HLA_COMPASS_RUN_ID="rehearsal",
        HLA_COMPASS_MODULE=f"{_NAME}:Nothing", HLA_COMPASS_EXECUTE_TIMEOUT_SECONDS="60",
        HLA_RATE_LIMIT_MAX_REQUESTS="10000",
    )  # fmt: skip


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Whatever happens inside: the process has its environment, folder, arguments, logging and output back after it."""
    environment, folder, arguments = dict(os.environ), os.getcwd(), list(sys.argv)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        sys.argv[:] = arguments
        sys.modules.pop(_NAME, None)
        tempfile.tempdir = None
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)


def fill_holes() -> list[Any]:
    """Objects for the free places in memory that is in use, to be kept until the fork.

    What a run makes goes to new pages then, few and its own, instead of into holes all over the pages it shares.
    """
    holes: list[Any] = []
    with contextlib.suppress(Exception):
        free = _free_blocks()
        if sum(size * count for size, count in free.items()) <= _LARGEST_HOLES:
            for size, count in free.items():
                holes.append([_block(size) for _ in range(count)])
    return holes


def _block(size: int) -> object:
    """An object that takes exactly one block of `size` bytes, and is nothing to the collector."""
    if size == 16:
        return object()
    if size == 32:
        return float(str(size))
    return bytes(size - sys.getsizeof(b""))


def _free_blocks() -> dict[int, int]:
    """Free blocks of each size in pools that are in use. The interpreter tells it to stderr alone."""
    saved = os.dup(2)
    told = os.memfd_create("told", os.MFD_CLOEXEC)
    try:
        os.dup2(told, 2)
        sys._debugmallocstats()  # type: ignore[attr-defined,unused-ignore]
        os.dup2(saved, 2)
        text = os.pread(told, 64 * 1024, 0).decode("ascii", "replace")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(told)
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if len(row) == _COLUMNS and all(word.isdigit() for word in row)]
    return {int(row[_SIZE]): int(row[_FREE]) for row in rows}
