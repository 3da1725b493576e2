"""What is kept of ended runs: the newest, and nothing of the others."""

from __future__ import annotations

import logging

import attrs

from devkit_api.errors import ObjectStoreUnavailable
from devkit_api.objects.inputs import Inputs
from devkit_api.runs.files import RunFiles
from devkit_api.runs.repository import RunRepository
from devkit_api.state import StateError

log = logging.getLogger(__name__)


@attrs.frozen
class Retention:
    """Lets runs go, with everything they left."""

    repository: RunRepository
    files: RunFiles
    inputs: Inputs

    async def retain(self) -> None:
        """Let the oldest finished runs go, with everything they left."""
        for run_id in self.repository.overdue():
            try:
                await self.repository.remove(run_id)
            except StateError:
                return  # logged by the store; the next end of a run tries again
            await self.discard(run_id)

    async def discard(self, run_id: str) -> None:
        """Delete the files of a run whose document is gone."""
        await self.files.remove(run_id)
        try:
            await self.inputs.discard(run_id)
        except ObjectStoreUnavailable:
            log.warning("the files of a removed run are left in the object store", extra={"run": run_id})
