"""Where the devkit is reached: by clients, and by the processes of its own runs."""

from __future__ import annotations

from pathlib import Path

import attrs


@attrs.define
class PublicAddress:
    """Where clients (`base_url`) and module processes (`own_url`) reach the devkit; known for certain once the port is
    bound. They differ behind a proxy, which the processes may neither reach nor trust.

    `ca_bundle` is what a client has to trust, when that is not what every machine trusts. `runs_elsewhere`: runs are
    executed by other machines, which come as clients do.
    """

    base_url: str
    own_url: str
    ca_bundle: Path | None = None
    runs_elsewhere: bool = False

    @property
    def runs_url(self) -> str:
        """Where the processes of the devkit's own runs reach it."""
        return self.base_url if self.runs_elsewhere else self.own_url

    @property
    def authority(self) -> str | None:
        """The devkit's own certificate authority (PEM), for machines that do not have its file."""
        path = self.ca_bundle.with_name("ca.pem") if self.ca_bundle else None
        return path.read_text() if path is not None and path.is_file() else None

    def trust(self) -> dict[str, str]:
        """Environment variables that have a module's process on this machine trust the devkit."""
        names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if self.ca_bundle and not self.runs_elsewhere else ()
        return {name: str(self.ca_bundle) for name in names}
