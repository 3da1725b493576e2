"""Figures of a pool, for metrics and health."""

from __future__ import annotations

import attrs


@attrs.define
class PoolCounts:
    """For metrics: how often a pool was asked, and how often it had to connect."""

    acquired: int = 0
    connected: int = 0
    refused: int = 0


@attrs.frozen
class PoolStats:
    """A pool at a moment: what it may hold, holds and lends, and how often it was asked, connected and refused."""

    limit: int
    open: int
    in_use: int
    acquired: int
    connected: int
    refused: int

    @property
    def reused(self) -> int:
        """How often an open connection served."""
        return max(0, self.acquired - self.refused - self.connected)

    def view(self) -> dict[str, int]:
        """For health."""
        names = {"limit": self.limit, "open": self.open, "inUse": self.in_use, "acquired": self.acquired}
        return {**names, "connected": self.connected, "reused": self.reused, "refused": self.refused}
