"""The settings put together, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from devkit_api.settings.access import AccessSettings
from devkit_api.settings.declare import SettingInfo, declared, setting
from devkit_api.settings.requests import RequestSettings
from devkit_api.settings.runs import RunSettings
from devkit_api.settings.server import ServerSettings
from devkit_api.settings.storage import StorageSettings
from devkit_api.settings.values import identifier

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


# attrs collects the fields of the last base first: that is their order in the documentation. Classes with slots cannot
# be joined so.
@attrs.frozen(kw_only=True, slots=False)
class Settings(RunSettings, StorageSettings, RequestSettings, AccessSettings, ServerSettings):
    """The devkit's configuration, checked. Durations are seconds, sizes bytes."""

    org_id: str = setting(
        "ORG_ID",
        "00000000-0000-4000-8000-00000000d0e1",
        identifier,
        "Organisation every local run belongs to.",
        example="00000000-0000-4000-8000-00000000d0e1",
    )
    user_id: str = setting(
        "USER_ID",
        "00000000-0000-4000-8000-00000000d0e2",
        identifier,
        "User of the configured API key.",
        example="00000000-0000-4000-8000-00000000d0e2",
    )
    sources: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS

    @property
    def kill_grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL for a run that is stopped."""
        return min(self.shutdown_grace, 5.0)

    @property
    def most_on_cluster(self) -> int | None:
        """Runs handed to the Dask cluster at a time, when the user said how many."""
        return self.workers if "workers" in self.sources else None

    @property
    def scheme(self) -> str:
        """How the devkit itself is spoken to."""
        return "https" if self.tls_cert else "http"

    @property
    def own_url(self) -> str:
        """Where this machine's own processes reach the server; with port 0, not yet the port that is bound.

        A certificate is for the name that clients use, so with one it is the same address.
        """
        if self.public_url is not None and self.tls_cert is not None:
            return self.public_url
        return f"{self.scheme}://{_reachable(self.host)}:{self.port}"

    @property
    def ca_bundle(self) -> Path | None:
        """What trusts the certificate, when `tls init` made it."""
        bundle = self.tls_cert.resolve().with_name("ca-bundle.pem") if self.tls_cert else None
        return bundle if bundle is not None and bundle.is_file() else None

    @property
    def api_keys_path(self) -> Path:
        """File of the named API keys."""
        return self.api_keys_file or self.state_dir / "api-keys.json"

    @property
    def users_path(self) -> Path:
        """File of the local users."""
        return self.state_dir / "users.json"

    @property
    def allowed_source_roots(self) -> tuple[Path, ...]:
        """Directories from which a request may name a module source."""
        watched = (self.modules_dir,) if self.modules_dir else ()
        return (*watched, *self.source_roots)


def _reachable(host: str) -> str:
    """The address under which this machine's own processes reach a server bound to `host`."""
    # Compared, not bound.
    if host in {"0.0.0.0", "localhost"}:  # noqa: S104  # nosec B104
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def setting_infos() -> dict[str, SettingInfo]:
    """Field name -> what is known of the setting, in declaration order."""
    return declared(Settings)
