"""Prepared runs: a plan is priced and frozen by `quote`, and started later exactly as it was reviewed.

The run id is chosen when the plan is made. Starting a plan twice therefore names one run twice, and the second start
finds the first's run: no lock and no second write are needed to make the start idempotent.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from devkit_api import jsonio
from devkit_api.errors import PlanInvalid
from devkit_api.state import DocumentStore

COLLECTION = "plans"
LIFETIME = timedelta(hours=1)
# How long an admitted plan can still be replayed to find its run.
MEMORY = timedelta(days=7)


@attrs.frozen
class Plan:
    """One frozen request and the run it will become."""

    admission_id: str
    fingerprint: str
    run_id: str
    module_id: str
    source_digest: str | None
    expires_at: str
    admitted: bool = False

    @property
    def is_expired(self) -> bool:
        """Whether it can no longer be started for the first time."""
        return datetime.fromisoformat(self.expires_at) < datetime.now(UTC)


class PlanBook:
    """Plans in the store."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def add(self, run_id: str, prepared: dict[str, Any], source_digest: str | None) -> Plan:
        """Freeze a prepared request as the run it will become."""
        expires = (datetime.now(UTC) + LIFETIME).isoformat(timespec="seconds").replace("+00:00", "Z")
        plan = Plan(
            admission_id=str(uuid.uuid4()),
            fingerprint=fingerprint(prepared),
            run_id=run_id,
            module_id=str(prepared["moduleId"]),
            source_digest=source_digest,
            expires_at=expires,
        )
        await self._store.put(COLLECTION, plan.admission_id, attrs.asdict(plan))
        return plan

    async def find(self, admission_id: str, sent_fingerprint: str, prepared: dict[str, Any]) -> Plan:
        """The plan, when it is known and unchanged. Raises `PlanInvalid`."""
        try:
            key = str(uuid.UUID(admission_id))
        except ValueError:
            raise PlanInvalid(reason="its admissionId is not one") from None
        document = await self._store.get(COLLECTION, key)
        if document is None:
            raise PlanInvalid(reason="it is not known here")
        try:
            plan = Plan(**document)
        except TypeError:
            raise PlanInvalid(reason="it is damaged") from None
        unchanged = hmac.compare_digest(plan.fingerprint, fingerprint(prepared))
        if not unchanged or not hmac.compare_digest(plan.fingerprint.encode(), sent_fingerprint.encode()):
            raise PlanInvalid(reason="it was changed after it was prepared")
        return plan

    async def mark_admitted(self, plan: Plan) -> None:
        """Remember that the plan became its run; it never becomes another one."""
        await self._store.put(COLLECTION, plan.admission_id, attrs.asdict(attrs.evolve(plan, admitted=True)))

    async def sweep(self) -> None:
        """Forget plans too old to be replayed."""
        async for key, document in self._store.scan(COLLECTION):
            try:
                expired = datetime.fromisoformat(document["expires_at"]) + MEMORY < datetime.now(UTC)
            except (KeyError, TypeError, ValueError):
                expired = True
            if expired:
                await self._store.delete(COLLECTION, key)

    async def run_ids(self) -> set[str]:
        """The runs the known plans are for, started or not."""
        return {str(document.get("run_id")) async for _, document in self._store.scan(COLLECTION)}

    async def clear(self) -> None:
        """Forget every plan."""
        await self._store.clear(COLLECTION)


def fingerprint(prepared: dict[str, Any]) -> str:
    """sha256 of the request in canonical JSON, in hex."""
    return hashlib.sha256(jsonio.canonical(prepared)).hexdigest()
