"""Where the devkit is reached from outside."""

from __future__ import annotations

import attrs


@attrs.define
class PublicAddress:
    """Where clients and module processes reach the devkit; known for certain once the port is bound."""

    base_url: str
