"""A devkit as a process, for tests."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

# A database of one's own is waited for, and a slow machine makes the embedded one.
_START_SECONDS = 300.0
_STOP_SECONDS = 30


class DevkitDidNotStart(Exception):
    """What the server said instead of its address."""


def new_key() -> str:
    """A key of this session's own."""
    return "hla_devkit_test_" + secrets.token_hex(16)


def environment(state: Path, key: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as variables. Catalogs are off unless asked for: starting their database costs a second."""
    base = {"DEVKIT_STATE_DIR": str(state), "DEVKIT_API_KEY": key, "DEVKIT_PORT": "0", "DEVKIT_CATALOGS": "off"}
    return base | {f"DEVKIT_{name.upper()}": str(value) for name, value in settings.items()}


class RunningDevkit:
    """A devkit on a free port with a state of its own; both go when the context ends.

    `endpoint` and `api_key` are for clients, `sdk_environment` for processes that use the official SDK.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.api_key = new_key()
        self.endpoint = ""
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    @property
    def sdk_environment(self) -> dict[str, str]:
        """The two variables that point the SDK here."""
        return {"HLA_API_ENDPOINT": self.endpoint, "HLA_API_KEY": self.api_key}

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request with the API key."""
        headers = {"X-API-Key": self.api_key, **options.pop("headers", {})}
        options.setdefault("timeout", 60)
        return requests.request(method, self.endpoint + path, headers=headers, **options)  # noqa: S113  set above

    def __enter__(self) -> RunningDevkit:
        # Not in pytest's folder: it is closed to the user that executes modules when the devkit is root.
        self._folder = tempfile.TemporaryDirectory(prefix="devkit-test-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
        with (folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "devkit_api", "serve"],
                env=inherited | environment(folder / "state", self.api_key, self._settings),
                cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        line = self._first_line(self._process)
        if "ready at " not in line:
            self._stop()
            said = (folder / "server.log").read_text(encoding="utf-8", errors="replace")[-4000:]
            self._folder.cleanup()
            raise DevkitDidNotStart(f"{line}{said}" or f"it said nothing within {_START_SECONDS:g} s")
        self.endpoint = line.split("ready at ", 1)[1].strip()
        return self

    @staticmethod
    def _first_line(process: subprocess.Popen[str]) -> str:
        """Empty for a process that ends, or stands still, before it has said anything."""
        assert process.stdout is not None  # noqa: S101  it is PIPE
        limit = threading.Timer(_START_SECONDS, process.kill)
        limit.start()
        try:
            return process.stdout.readline()
        finally:
            limit.cancel()

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        process = self._process
        assert process is not None  # noqa: S101  entered before
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
