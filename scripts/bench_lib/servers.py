"""Servers as real processes on free ports: the devkit, and the bare reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import requests

from bench_lib.machine import cores, pin

KEY = "bench-0123456789abcdef"
SCRIPTS = Path(__file__).resolve().parents[1]
# Made anew by every server for every answer; the reference's come from the same place.
_MADE_BY_AIOHTTP = frozenset({"content-length", "content-type", "date", "connection"})


class Server:
    """A process that prints its address when it is ready. Stopped by its own id."""

    def __init__(self, command: list[str], environment: dict[str, str], log: IO[bytes], pinned: bool = True) -> None:
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        if pinned:
            pin(self._process.pid, cores()[0])
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "ready at " not in line:
            self.stop()
            raise RuntimeError(f"the server did not start; see {log.name}")
        self.endpoint = line.split("ready at ", 1)[1].strip()

    @property
    def cpu_seconds(self) -> float:
        """Processor time the server has used; NaN where the system does not tell."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return float("nan")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Memory the server has now."""
        return self._memory("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The most memory it had since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new peak (proc(5), clear_refs)."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split(f"{field}:", 1)[1].split(maxsplit=1)[0]) * 1024

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def devkit(root: Path, *, modules: Path | None = None, pinned: bool = True, **settings: Any) -> Server:
    """A devkit with its state under `root`. Its log goes to a file there, as a service's would."""
    root.mkdir(parents=True, exist_ok=True)
    modules_dir = {"MODULES_DIR": modules} if modules else {}
    with (root / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "devkit_api", "serve"]
        return Server(command, environment(root, **modules_dir, **settings), log, pinned)


def environment(root: Path, **settings: Any) -> dict[str, str]:
    """The devkit's settings, and nothing of the caller's; bytecode is cached, as it is for users."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    values = {
        "API_KEY": KEY,
        "STATE_DIR": root / "state",
        "PORT": 0,
        "LOG_LEVEL": "WARNING",
        "MAX_STORED_RUNS": 10_000_000,
        "RATE_LIMIT_READ": "off",
        "RATE_LIMIT_WRITE": "off",
        "RATE_LIMIT_RUN": "off",
        **settings,
    }
    return kept | {f"DEVKIT_{name}": str(value) for name, value in values.items()}


def bare(root: Path, like: requests.Response, *, reads_body: bool = False) -> Server:
    """A bare aiohttp handler that answers with the body, status and headers of `like`."""
    headers = [f"{k}: {v}" for k, v in like.headers.items() if k.lower() not in _MADE_BY_AIOHTTP]
    (root / "body").write_bytes(like.content)
    options = [f"--status={like.status_code}", f"--body={root / 'body'}", *(f"--header={line}" for line in headers)]
    if reads_body:
        options.append("--read")
    with (root / "bare.log").open("wb") as log:
        return Server([sys.executable, str(SCRIPTS / "bench_lib" / "bare.py"), *options], dict(os.environ), log)


def bare_files(root: Path) -> Server:
    """A bare aiohttp handler that writes and sends one file under `root`."""
    command = [sys.executable, "-m", "bench_lib.bare_files", str(root)]
    with (root / "bare-files.log").open("wb") as log:
        return Server(command, dict(os.environ), log)


def follow(server: Server, run_id: str) -> requests.Response:
    """A run's events, read to the end of the run."""
    return call(server, "GET", f"/v1/module-runs/{run_id}/events")


def call(server: Server, method: str, path: str, **options: Any) -> requests.Response:
    """One authenticated request, which must succeed."""
    answer = requests.request(method, server.endpoint + path, headers={"X-API-Key": KEY}, timeout=600, **options)
    answer.raise_for_status()
    return answer
