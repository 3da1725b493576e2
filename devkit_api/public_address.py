"""Where the devkit is reached: by clients, and by the processes of its own runs."""

from __future__ import annotations

from pathlib import Path

import attrs


@attrs.define
class PublicAddress:
    """Where clients (`base_url`) and module processes (`own_url`) reach the devkit; known for certain once the port is
    bound. They differ behind a proxy, which the processes may neither reach nor trust.

    `ca_bundle` is what a client has to trust, when that is not what every machine trusts.
    """

    base_url: str
    own_url: str
    ca_bundle: Path | None = None

    def trust(self) -> dict[str, str]:
        """Environment variables that have a module's process trust the devkit."""
        names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if self.ca_bundle else ()
        return {name: str(self.ca_bundle) for name in names}
