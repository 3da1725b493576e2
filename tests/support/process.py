"""The devkit as a real process on a free port, with its own state directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests

from tests.support.waiting import PATIENCE, until

REPO = Path(__file__).resolve().parents[2]
TEST_KEY = "test-key-0123456789abcdef"
ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})


class DevkitProcess:
    """`start`, `stop`, `kill`; requests with the key. Use as a context manager."""

    def __init__(self, root: Path, modules: Path | None = None, **settings: Any) -> None:
        self.root = root
        self.state = root / "state"
        self.modules = modules
        self.settings = settings
        self.arguments: tuple[str, ...] = ()
        self.process: subprocess.Popen[str] | None = None
        self.endpoint = ""
        self.address = ""
        self._sessions = threading.local()

    def environment(self) -> dict[str, str]:
        """The server's own environment: nothing of the caller's settings leaks in."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
        return {
            **env,
            "PYTHONPATH": str(REPO),
            "DEVKIT_STATE_DIR": str(self.state),
            "DEVKIT_API_KEY": TEST_KEY,
            "DEVKIT_PORT": "0",
            "DEVKIT_LOG_FORMAT": "json",
            "DEVKIT_CATALOGS": "off",
            **({"DEVKIT_MODULES_DIR": str(self.modules)} if self.modules else {}),
            **{f"DEVKIT_{name.upper()}": str(value) for name, value in self.settings.items()},
        }

    def sdk_environment(self) -> dict[str, str]:
        """What `devkit env` exports, and a private configuration directory for the SDK."""
        config = self.root / "sdk-config"
        config.mkdir(exist_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_"))}
        return {
            **env,
            "HLA_API_ENDPOINT": self.endpoint,
            "HLA_API_KEY": TEST_KEY,
            "HLA_COMPASS_CONFIG_DIR": str(config),
            "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
            "HLA_RATE_LIMIT_MAX_REQUESTS": "10000",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "COLUMNS": "200",
        }

    def start(self) -> DevkitProcess:
        """Start and wait until the ready line names the address."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.log = (self.root / "server.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "devkit_api", "serve", *self.arguments],
            env=self.environment(), cwd=self.root, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "ready at" not in line:
            self.process.wait(timeout=PATIENCE)
            self.process.stdout.close()
            self.log.close()
            raise AssertionError(f"no ready line, but {line!r}; log:\n{self.log_text()[-4000:]}")
        self.address = line.split("ready at", 1)[1].strip()
        # Behind a proxy, clients are told the proxy's address; tests reach the server itself as well.
        self.endpoint = (self.state / "endpoint").read_text() if "public_url" in self.settings else self.address
        self._sessions = threading.local()
        return self

    def log_text(self) -> str:
        """The server's log so far."""
        return (self.root / "server.log").read_text()

    def log_lines(self) -> list[str]:
        """Whole lines of it: the last one may not be all there yet."""
        text = self.log_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def stop(self, number: int = signal.SIGTERM, within: float = PATIENCE) -> int:
        """Stop with a signal; the exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=within)
        finally:
            self.process.kill()  # a server that does not stop fails its test, and must not outlive it
            self.process.wait()
            self.process.stdout.close()
            self.log.close()

    def kill(self) -> None:
        """`kill -9`."""
        self.stop(signal.SIGKILL)

    def request(self, method: str, path: str, *, key: str | None = TEST_KEY, **options: Any) -> requests.Response:
        """One request with the API key (or another, or none), over a connection that is kept for the next."""
        headers = {**({"X-API-Key": key} if key else {}), **options.pop("headers", {})}
        options.setdefault("timeout", PATIENCE)
        return self._session().request(method, self.endpoint + path, headers=headers, **options)

    def _session(self) -> requests.Session:
        """The thread's own, for the server as it runs now. It keeps connections, and no cookies."""
        session: requests.Session | None = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return session

    def run(self, module_id: str, parameters: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Start a run in async mode; the run document."""
        body = {"moduleId": module_id, "parameters": parameters or {}, "mode": "async", **fields}
        answer = self.request("POST", "/v1/module-runs", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def wait(self, run_id: str, within: float = PATIENCE) -> dict[str, Any]:
        """The run once it has ended."""
        return until(lambda: self._ended(run_id), within)

    def _ended(self, run_id: str) -> dict[str, Any] | None:
        run: dict[str, Any] = self.request("GET", f"/v1/module-runs/{run_id}").json()
        return run if run["status"] in ENDED else None

    def __enter__(self) -> DevkitProcess:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
