"""A batch of changes becomes durable: one statement, one transaction, which holds only while the epoch is ours.

A connection that is lost before the statement is sent costs nothing. When it is lost after, nobody knows whether the
batch was committed; such a batch is sent again until that is known, for as long as it takes, because neither "stored"
nor "not stored" may be said before. To send it twice does no harm: it says what the documents are, not what to add.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import attrs
import psycopg2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from devkit_api.database.failures import PASSING, connection_lost, first_line
from devkit_api.database.pool import Pool, StatementCancelled, execute
from devkit_api.errors import Unavailable
from devkit_api.state.postgres.ownership import Ownership
from devkit_api.state.queue import Key
from devkit_api.state.store import OwnershipLost

log = logging.getLogger(__name__)

# Seconds in which the database may come back before writes are refused.
PATIENCE = 10.0
_AWAY = "the database does not answer"
# About the document itself: the others of its batch are fine.
_OF_A_DOCUMENT = ("22", "23", "54")

# `FOR SHARE` makes whoever takes over wait for this commit, and makes this one see who already has.
_CHANGE = """
WITH ours AS MATERIALIZED (
    SELECT state_id FROM devkit_state.owner WHERE epoch = %(epoch)s AND state_id = %(state)s FOR SHARE
), change AS (
    SELECT c.* FROM ours, unnest(%(collections)s::text[], %(keys)s::text[], %(documents)s::text[])
        AS c(collection, key, document)
), stored AS (
    INSERT INTO devkit_state.documents AS d (collection, key, document)
    SELECT collection, key, document::json FROM change WHERE document IS NOT NULL
    ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document
), removed AS (
    DELETE FROM devkit_state.documents d USING change c
     WHERE c.document IS NULL AND d.collection = c.collection AND d.key = c.key
)
SELECT count(*) FROM ours"""


class _NotStored(Exception):
    """The batch was not stored, and may be in a moment."""


class _Unknown(Exception):
    """The connection was lost while the batch was being committed."""


class _Refused(Exception):
    """The batch is not stored, and will not be."""

    def __init__(self, reason: str, *, is_about_a_document: bool = False) -> None:
        self.is_about_a_document = is_about_a_document
        super().__init__(reason)


@attrs.define
class Writer:
    """Commits batches. `refuse_pending` is called while one is stuck; `is_closing` makes it give up sooner."""

    pool: Pool
    ownership: Ownership
    refuse_pending: Callable[[str], None] = attrs.field(default=lambda _reason: None)
    is_closing: Callable[[], bool] = attrs.field(default=lambda: False)
    _is_unknown: bool = attrs.field(default=False, init=False)

    async def commit(self, changes: Mapping[Key, bytes | None]) -> dict[Key, str]:
        """Apply the changes; the answer holds the reason for each that failed."""
        self._is_unknown = False
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((_NotStored, _Unknown)),
            wait=wait_random_exponential(0.05, max=1),
            stop=self._is_enough,
            before_sleep=self._before_another,
            reraise=True,
        )
        try:
            await retrying(self._commit_once, changes)
        except _Refused as exc:
            if exc.is_about_a_document and len(changes) > 1:
                return await self._one_by_one(changes)
            return dict.fromkeys(changes, str(exc))
        except (_NotStored, _Unknown):
            return dict.fromkeys(changes, _AWAY)
        except OwnershipLost as exc:
            return dict.fromkeys(changes, str(exc))
        return {}

    async def _one_by_one(self, changes: Mapping[Key, bytes | None]) -> dict[Key, str]:
        failures: dict[Key, str] = {}
        for key, data in changes.items():
            failures |= await self.commit({key: data})
        return failures

    async def _commit_once(self, changes: Mapping[Key, bytes | None]) -> None:
        epoch = self.ownership.epoch
        assert self.ownership.mark is not None  # noqa: S101  there is an epoch
        parameters = {
            "epoch": epoch,
            "state": self.ownership.mark.state_id,
            "collections": [collection for collection, _ in changes],
            "keys": [key for _, key in changes],
            "documents": [None if data is None else data.decode() for data in changes.values()],
        }
        is_sent = False
        try:
            async with self.pool.cursor() as cursor:
                await execute(cursor, "SELECT 1")  # a dead connection is found before anything is at stake
                is_sent = True
                await execute(cursor, _CHANGE, parameters)
                [(owned,)] = await cursor.fetchall()
        except (Unavailable, StatementCancelled):
            raise _NotStored from None
        except psycopg2.Error as exc:
            raise self._meaning(exc, is_sent=is_sent) from exc
        except (TimeoutError, OSError, RuntimeError) as exc:  # what aiopg says of a socket that gave no answer
            self._is_unknown = self._is_unknown or is_sent
            raise _Unknown() if is_sent else _NotStored() from exc
        if not owned:
            self.ownership.lose("another devkit has taken over: the database took no more writes of this one")
            raise OwnershipLost(self.ownership.lost or "")

    def _meaning(self, exc: psycopg2.Error, *, is_sent: bool) -> Exception:
        if connection_lost(exc):
            self._is_unknown = self._is_unknown or is_sent
            return _Unknown() if is_sent else _NotStored()
        code = exc.pgcode or ""
        # What is wrong with a document was wrong with it the time before as well: then nothing is unknown.
        is_about_a_document = code.startswith(_OF_A_DOCUMENT)
        if code.startswith(PASSING) or (self._is_unknown and not is_about_a_document):
            return _NotStored()
        log.error("the database refused a write", exc_info=exc)
        return _Refused(first_line(exc), is_about_a_document=is_about_a_document)

    def _is_enough(self, state: RetryCallState) -> bool:
        if self.ownership.lost is not None:
            return True
        is_late = (state.seconds_since_start or 0) > PATIENCE
        return is_late and (not self._is_unknown or self.is_closing())

    def _before_another(self, state: RetryCallState) -> None:
        late = (state.seconds_since_start or 0) > PATIENCE
        if state.attempt_number == 1 or late:
            log.warning("the database does not take writes now", extra={"attempt": state.attempt_number})
        if late:
            self.refuse_pending(_AWAY)
