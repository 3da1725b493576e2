"""The commands' own small client. It uses what the SDK uses: HLA_API_ENDPOINT and HLA_API_KEY, else local settings."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs

from devkit_api.left_out import is_left_out
from devkit_api.security.credentials import load_credentials
from devkit_api.settings import Settings, load_settings

# `requests` is imported by who calls: `serve` does not, and starts the sooner.
if TYPE_CHECKING:
    import requests

_TIMEOUT = (5, 120)
# Seconds before each attempt to read a run's events.
_RESUME_AFTER = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)


class DevkitUnreachable(Exception):
    """Nothing answers at the endpoint."""

    def __init__(self, endpoint: str, *, is_from_variables: bool = False) -> None:
        self.endpoint = endpoint
        self.is_from_variables = is_from_variables
        super().__init__(endpoint)


class RunOutOfSight(Exception):
    """The devkit stopped answering while a run was being followed."""

    def __init__(self, endpoint: str, run_id: str) -> None:
        self.endpoint = endpoint
        self.run_id = run_id
        super().__init__(run_id)


class NoCredentials(Exception):
    """This directory has no devkit, and the SDK's variables name none."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        super().__init__(str(state_dir))


class NotADevkit(Exception):
    """Something else answers at the endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        super().__init__(endpoint)


class RequestFailed(Exception):
    """The devkit answered with an error body."""

    def __init__(self, status: int, body: Any) -> None:
        sent = body.get("error") if isinstance(body, dict) else None
        error = sent if isinstance(sent, dict) else {}
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
    is_from_variables: bool = False

    @classmethod
    def find(cls) -> Connection:
        """From the SDK's two variables when both are set, else from this directory's settings and credentials.

        Never a mix: a local key must not travel to another server. Whatever is found has to be a devkit, so that a
        shell that still points at the platform starts nothing there.
        """
        endpoint, key = os.environ.get("HLA_API_ENDPOINT"), os.environ.get("HLA_API_KEY")
        if endpoint and key:
            found = cls(endpoint.rstrip("/"), key, is_from_variables=True)
        else:
            settings = load_settings(os.environ)
            credentials = load_credentials(settings, create=False)
            if credentials is None:
                raise NoCredentials(settings.state_dir)
            found = cls(local_endpoint(settings), credentials.api_key)
            if settings.ca_bundle is not None:
                # requests looks there, and so does whatever command runs after this one in the same process.
                os.environ.setdefault("REQUESTS_CA_BUNDLE", str(settings.ca_bundle))
        found._check_is_devkit()
        return found

    def _check_is_devkit(self) -> None:
        import requests

        try:
            index = requests.get(self.endpoint + "/", timeout=_TIMEOUT, allow_redirects=False)
        except requests.RequestException:
            raise DevkitUnreachable(self.endpoint, is_from_variables=self.is_from_variables) from None
        if not _is_devkit(index):
            raise NotADevkit(self.endpoint)

    def bypassed(self) -> str | None:
        """Where this directory's own devkit runs, when the SDK's variables name another one."""
        if not self.is_from_variables:
            return None
        settings = load_settings(os.environ)
        noted = noted_endpoint(settings)
        if noted is None or self.endpoint in {noted, settings.public_url}:
            return None
        return noted if is_answering(noted) else None

    def request(self, method: str, path: str, **options: Any) -> Any:
        """A parsed JSON answer. Raises `DevkitUnreachable` or `RequestFailed`."""
        response = self._send(method, path, **options)
        body = _json_or_none(response)
        if response.status_code >= 400 or body is None:
            raise RequestFailed(response.status_code, body)
        return body

    def events(self, run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """A run's events as they happen, up to `end`. A broken stream is resumed where it broke off."""
        import requests

        last = "0"
        for pause in _RESUME_AFTER:
            # A devkit that restarts needs a moment, and nothing tells a client when it is back.
            time.sleep(pause)
            try:
                with self._open_events(run_id, last) as answer:
                    for kind, last, data in _parse_events(answer):  # noqa: B007  the last id seen is where to resume
                        yield kind, data
                        if kind == "end":
                            return
            except (requests.RequestException, DevkitUnreachable):
                continue
        raise DevkitUnreachable(self.endpoint)

    def _open_events(self, run_id: str, last: str) -> requests.Response:
        path = f"/v1/api/module-runs/{run_id}/events"
        answer = self._send("GET", path, headers={"Last-Event-ID": last}, stream=True)
        if answer.status_code != 200:
            with answer:
                raise RequestFailed(answer.status_code, _json_or_none(answer))
        answer.encoding = "utf-8"  # event streams are; without a charset requests would guess
        return answer

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        import requests

        headers = {"X-API-Key": self.api_key, **options.pop("headers", {})}
        try:
            return requests.request(
                method, self.endpoint + path, headers=headers, timeout=_TIMEOUT, allow_redirects=False, **options
            )
        except requests.RequestException:
            raise DevkitUnreachable(self.endpoint) from None


def _json_or_none(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _parse_events(response: requests.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    fields: dict[str, str] = {}
    for line in response.iter_lines(chunk_size=None, decode_unicode=True):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield fields["event"], fields["id"], json.loads(fields["data"])
        fields = {}


def local_endpoint(settings: Settings) -> str:
    """Where the devkit with these settings listens: what it noted when it started, else what the settings say."""
    return noted_endpoint(settings) or settings.own_url


def noted_endpoint(settings: Settings) -> str | None:
    """The address the devkit of this state directory noted at its last start; it may have stopped since."""
    noted = settings.state_dir / "endpoint"
    return noted.read_text(encoding="utf-8").strip() if noted.is_file() else None


def is_answering(endpoint: str) -> bool:
    """Whether a devkit answers there."""
    import requests

    try:
        return _is_devkit(requests.get(endpoint + "/", timeout=2, allow_redirects=False))
    except requests.RequestException:
        return False


def _is_devkit(index: requests.Response) -> bool:
    body = _json_or_none(index)
    return isinstance(body, dict) and body.get("service") == "hla-compass-devkit"


def module_files(folder: Path) -> Iterator[Path]:
    """Files of a module's folder worth sending; the server leaves out the same ones again."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not is_left_out(PurePosixPath(path.relative_to(folder))):
            yield path
