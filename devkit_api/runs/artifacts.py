"""Artifacts and lineage: every file a run saved, under ids that stay, and what the run was made from.

Nothing is stored for it. An artifact's id follows from its address, its lineage id from the id and the version; both
are the same whenever they are asked for, and go with the run.
"""

from __future__ import annotations

import asyncio
import uuid
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from importlib import import_module
from typing import Any

import attrs

from devkit_api.errors import ArtifactNotFound
from devkit_api.objects.addresses import Addresses
from devkit_api.objects.describe import describe
from devkit_api.objects.namespaces import locate, run_files, run_of, uri
from devkit_api.objects.protocol import ObjectInfo, ObjectStore
from devkit_api.runs.models import Run
from devkit_api.security.principals import Principal

RECEIPT_SECONDS = 300
_MODE = 0o100644
_CHUNK = 256 * 1024
_AT_ONCE = 16


@attrs.frozen
class Artifacts:
    """The files of runs as the lineage addresses show them."""

    store: ObjectStore
    addresses: Addresses
    bucket: str

    async def lineage(self, run: Run) -> dict[str, Any]:
        """What went into the run and what came out of it (wire-contract C.5)."""
        return {
            "runId": run.run_id,
            "status": run.status.value,
            "module": {"id": run.module_id, "version": run.module_version, "sourceDigest": run.source_digest},
            "inputs": [self._input(source) for source in (run.data_context or {}).get("sources", [])],
            "outputs": [output async for page in self._pages(run.run_id) for output in await self._outputs(run, page)],
        }

    async def origin(self, text: str) -> tuple[str, str] | None:
        """The run and the name of the file an `s3://` address names; None when it is no file of a run."""
        found = locate(self.bucket, text)
        run_id = run_of(found.namespace) if found else None
        if found is None or run_id is None or found.namespace != run_files(run_id):
            return None
        return run_id, found.name

    async def described(self, run_id: str, name: str) -> dict[str, Any] | None:
        """One artifact, or None."""
        info = await self.store.stat(run_files(run_id), name)
        return await self._described(run_id, info) if info else None

    async def receipt(
        self, run: Run, principal: Principal, artifact_id: str, lineage_id: str | None, version_id: str | None
    ) -> dict[str, Any]:
        """Where to read an artifact, and what it must turn out to be. Raises `ArtifactNotFound`."""
        run_id, addresses = run.run_id, self.addresses.for_caller(run, principal)
        current = await self._find(run_id, artifact_id)
        if current is None:
            raise ArtifactNotFound(artifact_id=artifact_id[:64], what="of this run")
        info = await self._version(run_id, artifact_id, current, lineage_id, version_id)
        if info is None:
            raise ArtifactNotFound(artifact_id=artifact_id, what="in this version, or it is no longer kept")
        return {
            "runId": run_id,
            "artifactId": artifact_id,
            "lineageId": _lineage_id(artifact_id, info.version),
            "versionId": info.version,
            "url": await addresses.get(run_files(run_id), info, RECEIPT_SECONDS),
            "expiresIn": RECEIPT_SECONDS,
            "sizeBytes": info.size,
            "checksum": f"sha256:{info.sha256}" if info.sha256 else None,
            "filename": info.name.rsplit("/", 1)[-1],
            "contentType": info.content_type,
        }

    async def archive(self, run_id: str) -> AsyncGenerator[bytes, None]:
        """Every file of the run as a zip, made while it is sent: neither memory nor disk holds more than a piece."""
        # It brings a cryptography library of its own, which takes longer to import than many a start to be ready.
        stream_zip = await asyncio.to_thread(import_module, "stream_zip")

        async def members() -> AsyncIterator[Any]:
            async for page in self._pages(run_id):
                for info in page:
                    method = stream_zip.ZIP_AUTO(info.size, level=1)
                    content = self.store.read(run_files(run_id), info.name, version=info.version)
                    yield info.name, datetime.fromisoformat(info.created_at), _MODE, method, content

        async for chunk in stream_zip.async_stream_zip(members(), chunk_size=_CHUNK, get_compressobj=_compressor):
            yield chunk

    async def _version(
        self, run_id: str, artifact_id: str, current: ObjectInfo, lineage_id: str | None, version_id: str | None
    ) -> ObjectInfo | None:
        """The version that is meant: by either id, or as it is now."""
        if version_id is None and lineage_id is not None:
            kept = await self.store.versions(run_files(run_id), current)
            version_id = next((v.version for v in kept if _lineage_id(artifact_id, v.version) == lineage_id), "")
        if version_id is None:
            return current
        if lineage_id not in {None, _lineage_id(artifact_id, version_id)}:
            return None
        return await self.store.stat(run_files(run_id), current.name, version_id)

    async def _outputs(self, run: Run, page: list[ObjectInfo]) -> list[dict[str, Any]]:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(info: ObjectInfo) -> dict[str, Any]:
            async with limit:
                return await self._described(run.run_id, info)

        return await asyncio.gather(*map(one, page))

    async def _pages(self, run_id: str) -> AsyncIterator[list[ObjectInfo]]:
        namespace, after = run_files(run_id), ""
        while True:
            listed, more = await self.store.list(namespace, after=after)
            yield await describe(self.store, namespace, listed)
            if more is None:
                return
            after = more

    async def _find(self, run_id: str, artifact_id: str) -> ObjectInfo | None:
        namespace, after = run_files(run_id), ""
        while True:
            listed, more = await self.store.list(namespace, after=after)
            for item in listed:
                if self._artifact_id(run_id, item.name) == artifact_id:
                    return await self.store.stat(namespace, item.name)
            if more is None:
                return None
            after = more

    def _artifact_id(self, run_id: str, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, uri(self.bucket, run_files(run_id), name)))

    async def _described(self, run_id: str, info: ObjectInfo) -> dict[str, Any]:
        artifact_id = self._artifact_id(run_id, info.name)
        lineage_id = _lineage_id(artifact_id, info.version)
        versions = await self.store.versions(run_files(run_id), info)
        return {
            "id": lineage_id,
            "lineageId": lineage_id,
            "artifactId": artifact_id,
            "runId": run_id,
            "artifactName": info.name,
            "artifactS3Uri": uri(self.bucket, run_files(run_id), info.name),
            "artifactMimeType": info.content_type,
            "artifactSizeBytes": info.size,
            "artifactChecksum": f"sha256:{info.sha256}" if info.sha256 else None,
            "artifactVersionId": info.version,
            "artifactVersions": [
                {
                    "versionId": kept.version,
                    "lineageId": _lineage_id(artifact_id, kept.version),
                    "sizeBytes": kept.size,
                    "createdAt": kept.created_at,
                }
                for kept in versions
            ],
            "artifactDeleted": False,
            "createdAt": info.created_at,
            "metadata": {**info.metadata, "s3VersionId": info.version},
        }

    def _input(self, source: dict[str, Any]) -> dict[str, Any]:
        origin = str(source.get("origin") or source.get("uri") or "")
        found = locate(self.bucket, origin)
        producer = run_of(found.namespace) if found else None
        return {**source, **({"producedByRunId": producer} if producer else {})}


def _lineage_id(artifact_id: str, version: str) -> str:
    return str(uuid.uuid5(uuid.UUID(artifact_id), version))


def _compressor() -> Any:
    return zlib.compressobj(wbits=-zlib.MAX_WBITS, level=1)
