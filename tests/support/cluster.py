"""A Dask cluster of real processes on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from tests.support.process import REPO
from tests.support.waiting import PATIENCE, until

_ADDRESS = re.compile(r"(?:Scheduler at|worker at):\s+((?:tcp|tls)://\S+)\s")


class DaskProcess:
    """`dask scheduler` or `dask worker`. `address` is known once it has started."""

    def __init__(self, root: Path, name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = root / f"{name}.log"
        self._arguments = arguments
        self._environment = environment or {}
        self.folder = root
        self._sink: IO[str] | None = None
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> DaskProcess:
        """Start without waiting."""
        # Neither a setting of the devkit nor anything of the SDK reaches the cluster by itself.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_", "DASK_"))}
        self._sink = self._log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + self._arguments[0], *self._arguments[1:]],
            env={**env, "PYTHONPATH": str(REPO), **self._environment},
            cwd=self.folder, stdout=self._sink, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return self

    @property
    def address(self) -> str:
        """Where it listens, once it says so."""
        return until(self._address)

    def _address(self) -> str | None:
        assert self.process is not None
        assert self.process.poll() is None, self.text()
        found = _ADDRESS.search(self.text())
        return found[1] if found else None

    def text(self) -> str:
        """Its log so far."""
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it with a signal, and wait."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            assert self._sink is not None
            self._sink.close()
            self.process = None


class Cluster:
    """A scheduler, and the workers that were added. Use as a context manager."""

    def __init__(self, root: Path, port: int = 0, *arguments: str, environment: dict[str, str] | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._environment = environment
        self.workers: list[DaskProcess] = []
        fixed = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        self._arguments = (*fixed, *arguments)
        self.scheduler = self._scheduler()

    def _scheduler(self) -> DaskProcess:
        return DaskProcess(self._root, "scheduler", *self._arguments, environment=self._environment)

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return self.scheduler.address

    def add_worker(self, *arguments: str, nanny: bool = False) -> DaskProcess:
        """Start one more worker of one thread; without a nanny, what is killed stays so."""
        name = f"worker-{len(self.workers)}"
        folder = self._root / name
        folder.mkdir()
        worker = DaskProcess(
            folder, name, "worker", self.address, "--host", "127.0.0.1", "--nanny" if nanny else "--no-nanny",
            "--no-dashboard", "--nthreads", "1", "--name", name, "--local-directory", str(folder),
            "--death-timeout", str(PATIENCE), *arguments, environment=self._environment,
        ).start()  # fmt: skip
        self.workers.append(worker)
        return worker

    def restart_scheduler(self) -> None:
        """A new one where the former was."""
        self.scheduler = self._scheduler().start()

    def __enter__(self) -> Cluster:
        self.scheduler.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            process.stop(signal.SIGTERM)
