"""Deployments, as far as there is something to deploy: here a version is ready once its stored source is whole.

The platform starts containers; the devkit runs a version from its source. So a deployment reads every file of that
source and compares it with the digest it was registered under, and says `deployed` only then.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

import attrs

from devkit_api.errors import DeploymentNotFound
from devkit_api.ids import utc_now
from devkit_api.modules.models import Bundle
from devkit_api.modules.service import ModuleRegistry
from devkit_api.state import Document, DocumentStore
from devkit_api.state.retry import until_stored

log = logging.getLogger(__name__)

COLLECTION = "deployments"
MOST_KEPT = 200
IN_PROGRESS, DEPLOYED, FAILED = "in_progress", "deployed", "failed"
_TARGETS = {"lambda", "fargate", "batch", "pipeline"}


@attrs.frozen
class Deployment:
    """One deployment; the names are those of the SDK's answers."""

    deployment_id: str
    module_id: str  # the registry's id; answers hold the UUID
    version: str
    deployment_target: str
    status: str
    started_at: str
    completed_at: str | None = None
    error_message: str | None = None


class DeploymentService:
    """Deployments by id; each is checked in the background, and again after a stop in between."""

    def __init__(
        self, store: DocumentStore, registry: ModuleRegistry, intact: Callable[[Bundle], Awaitable[bool]]
    ) -> None:
        self._store = store
        self._registry = registry
        self._intact = intact
        self._known: dict[str, Deployment] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read what is stored, and go on with what was in progress."""
        async for key, document in self._store.scan(COLLECTION):
            try:
                deployment = Deployment(**document)
            except TypeError:
                log.error("a stored deployment cannot be read and is left out", extra={"document": key})
                continue
            self._known[deployment.deployment_id] = deployment
        self._known = dict(sorted(self._known.items(), key=lambda item: item[1].started_at))
        for deployment in list(self._known.values()):
            if deployment.status == IN_PROGRESS:
                self._begin(deployment)

    async def close(self) -> None:
        """Stop checking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def deploy(self, module_uuid: str, version: str | None, target: str) -> tuple[Deployment, str]:
        """Admit a deployment; with it the module's name. Raises `ModuleNotFound`, `ModuleSuspended`."""
        module = self._registry.startable(self._registry.by_uuid(module_uuid), version)
        compute = str(module.manifest.get("computeType"))
        resolved = (compute if compute in _TARGETS else "fargate") if target == "auto" else target
        deployment = Deployment(
            str(uuid.uuid4()), module.module_id, module.version, resolved, IN_PROGRESS, utc_now()
        )  # fmt: skip
        await self._save(deployment)
        for old in list(self._known.values())[: max(0, len(self._known) - MOST_KEPT)]:
            await self._store.delete(COLLECTION, old.deployment_id)
            self._known.pop(old.deployment_id, None)
        self._begin(deployment)
        return deployment, str(module.manifest["name"])

    def get(self, module_uuid: str, deployment_id: str) -> Deployment:
        """A deployment of this module. Raises `ModuleNotFound`, `DeploymentNotFound`."""
        module_id = self._registry.by_uuid(module_uuid)
        found = self._known.get(deployment_id)
        if found is None or found.module_id != module_id:
            raise DeploymentNotFound(deployment_id=deployment_id[:100])
        return found

    async def clear(self) -> None:
        """Forget every deployment; what is being checked is no longer."""
        await self.close()
        await self._store.clear(COLLECTION)
        self._known.clear()

    def _begin(self, deployment: Deployment) -> None:
        task = asyncio.create_task(self._check(deployment), name="deployment-check")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(self, deployment: Deployment) -> None:
        await until_stored()(self._check_once, deployment)

    async def _check_once(self, deployment: Deployment) -> None:
        problem = await self._problem(deployment)
        if deployment.deployment_id in self._known:
            status = FAILED if problem else DEPLOYED
            await self._save(attrs.evolve(deployment, status=status, completed_at=utc_now(), error_message=problem))

    async def _problem(self, deployment: Deployment) -> str | None:
        module = self._registry.find(deployment.module_id, deployment.version)
        if module is None:
            return "the version was deleted meanwhile"
        if module.bundle is None:
            return "the module is external: its code is not here, and its runs wait for a backend to attach"
        if not await self._intact(module.bundle):
            return "the stored source is damaged; delete this version and publish it again"
        return None

    async def _save(self, deployment: Deployment) -> None:
        document: Document = attrs.asdict(deployment)
        await self._store.put(COLLECTION, deployment.deployment_id, document)
        self._known[deployment.deployment_id] = deployment
