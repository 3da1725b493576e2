"""The commands' own small client. It uses what the SDK uses: HLA_API_ENDPOINT and HLA_API_KEY, else local settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import requests

from devkit_api.security.credentials import load_credentials
from devkit_api.settings import Settings, load_settings

_TIMEOUT = (5, 120)


class DevkitUnreachable(Exception):
    """Nothing answers at the endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        super().__init__(endpoint)


class RequestFailed(Exception):
    """The devkit answered with an error body."""

    def __init__(self, status: int, body: Any) -> None:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        self.status = status
        self.code = str(error.get("code") or status)
        self.message = str(error.get("message") or "the answer is not one of a devkit")
        self.hint = str(error.get("hint") or "")
        self.findings: list[dict[str, Any]] = (error.get("details") or {}).get("errors") or []
        super().__init__(self.message)


@attrs.frozen
class Connection:
    """Where the devkit is and the key for it."""

    endpoint: str
    api_key: str = attrs.field(repr=False)

    @classmethod
    def find(cls) -> Connection:
        """From the SDK's variables when set, else from this directory's settings and credentials."""
        endpoint, key = os.environ.get("HLA_API_ENDPOINT"), os.environ.get("HLA_API_KEY")
        if endpoint and key:
            return cls(endpoint.rstrip("/"), key)
        settings = load_settings(os.environ)
        credentials = load_credentials(settings, create=False)
        return cls(endpoint or local_endpoint(settings), key or (credentials.api_key if credentials else ""))

    def request(self, method: str, path: str, **options: Any) -> Any:
        """A parsed JSON answer. Raises `DevkitUnreachable` or `RequestFailed`."""
        response = self._send(method, path, **options)
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.status_code >= 400 or body is None:
            raise RequestFailed(response.status_code, body)
        return body

    def log_events(self, run_id: str, token: str | None) -> tuple[list[dict[str, Any]], str]:
        """Log events after `token`, and the token to go on from."""
        query = {"nextToken": token} if token else {}
        page = self.request("GET", f"/v1/api/module-runs/{run_id}/logs", params=query)
        return page["events"], page["nextForwardToken"]

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-API-Key": self.api_key, **options.pop("headers", {})}
        try:
            return requests.request(
                method, self.endpoint + path, headers=headers, timeout=_TIMEOUT, allow_redirects=False, **options
            )
        except requests.RequestException:
            raise DevkitUnreachable(self.endpoint) from None


def local_endpoint(settings: Settings) -> str:
    """Where the devkit with these settings listens: what it noted when it started, else what the settings say."""
    noted = settings.state_dir / "endpoint"
    if noted.is_file():
        return noted.read_text(encoding="utf-8").strip()
    return settings.public_url or f"http://{settings.host}:{settings.port}"


def module_files(folder: Path) -> Iterator[Path]:
    """Files of a module's folder worth sending; the server leaves out the same ones again."""
    skipped = {"node_modules", ".git", ".venv", "venv", "__pycache__", ".devkit", "dist"}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and not skipped.intersection(relative.parts):
            yield path
