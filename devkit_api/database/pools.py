"""The pools of one database: for the devkit's own statements, and for users' SQL."""

from __future__ import annotations

import attrs

from devkit_api.database.pool import Pool, fetch
from devkit_api.database.pool_stats import PoolStats
from devkit_api.database.target import Target


@attrs.frozen
class Database:
    """The owner's pool for the devkit's own statements, the reader's for users' SQL."""

    target: Target
    owner: Pool
    reader: Pool

    async def open(self) -> None:
        """Connect."""
        await self.owner.open()
        await self.reader.open(ready=0)

    async def close(self) -> None:
        """Close both pools."""
        await self.reader.close()
        await self.owner.close()

    def stats(self) -> dict[str, PoolStats]:
        """Both pools, by whose connections they hold."""
        return {"owner": self.owner.stats(), "reader": self.reader.stats()}

    async def check(self) -> None:
        """For health: one statement and back."""
        await fetch(self.owner, "SELECT 1")


def make_database(target: Target, size: int, statement_seconds: float) -> Database:
    """Pools for a target; nothing is opened yet. The reader's own timeout is set per query."""
    reader = Pool(target.reader(), max(2, size // 2), statement_seconds, stopper=target.owner())
    return Database(target, Pool(target.owner(), size, statement_seconds), reader)
