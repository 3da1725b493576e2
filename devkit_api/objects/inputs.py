"""What a run reads besides its parameters: named sources, frozen when the run is prepared.

A source names a file by its `s3://` address (an upload, or what another run saved) or as `local://<root>/<path>` (a
file under DEVKIT_DATA_ROOTS). Freezing copies it to the run's own inputs with its checksum, so that neither the
original's change nor its deletion changes what the run reads (wire-contract E.4). A data view is frozen as its rows, a
context with nothing but a `uri` as its only source.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any, BinaryIO

import attrs

from devkit_api import jsonio
from devkit_api.errors import (
    DataContextInvalid,
    DataNotFound,
    DataUnreadable,
    ObjectNotFound,
    ParameterInvalid,
    RunNotFound,
)
from devkit_api.local_data.service import LocalData
from devkit_api.locks import Gate
from devkit_api.objects.describe import describe
from devkit_api.objects.namespaces import UPLOADS, Location, locate, run_files, run_inputs, run_of, run_reports, uri
from devkit_api.objects.protocol import CHUNK, Expected, ObjectInfo, ObjectStore, check_name
from devkit_api.objects.view_inputs import (
    CONTENT_TYPES,
    ONLY_SOURCE,
    TYPE,
    Selection,
    Views,
    ViewTable,
    file_of,
    selection_of,
)
from devkit_api.schemas import field_error
from devkit_api.security.principals import Principal

SOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
MANIFEST = "manifest.json"
MAX_SOURCES = 100
_UPLOAD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOCAL = re.compile(r"local://([^/]+)/(.+)")
# What a source may say of itself and the module then reads.
_TOLD = ("format", "columns", "rowCount", "catalogId", "catalogVersionId", "catalogVersionIds", "datasetVersionId")

FindRun = Callable[[str, Principal], Awaitable[object]]


@attrs.frozen
class Inputs:
    """Uploads, and the frozen inputs of runs. While the `gate` is closed nothing is uploaded."""

    store: ObjectStore
    bucket: str
    local_data: LocalData
    views: Callable[[], Views]
    gate: Gate = attrs.field(factory=Gate, init=False)

    async def upload(
        self, filename: str, content_type: str, chunks: AsyncIterator[bytes], principal: Principal
    ) -> dict[str, Any]:
        """Store a file runs can name as a source."""
        name = f"{uuid.uuid4()}/{check_name(filename.replace('/', '_'))}"
        owner = {"user-id": principal.user_id, "organization-id": principal.organization_id}
        info = {"content_type": content_type, "metadata": owner}
        with ExitStack() as until_stored:

            async def then_inside() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                until_stored.enter_context(self.gate.entered())  # a slow sender keeps no reset waiting

            return self._upload_view(await self.store.put(UPLOADS, check_name(name), then_inside(), None, info))

    async def uploads(self, principal: Principal, *, after: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the uploads `principal` may see, and where to go on."""
        listed, more = await self.store.list(UPLOADS, after=after, limit=limit)
        infos = await describe(self.store, UPLOADS, listed)
        return [self._upload_view(info) for info in infos if _may_read(info, principal)], more

    async def delete_upload(self, upload_id: str, principal: Principal) -> None:
        """Delete an upload; what runs froze of it stays theirs. Raises `ObjectNotFound`."""
        info = await self.find_upload(upload_id, principal)
        await self.store.delete(UPLOADS, info.name)

    async def find_upload(self, upload_id: str, principal: Principal) -> ObjectInfo:
        """An upload by its id. Raises `ObjectNotFound`, also when it is somebody else's."""
        if _UPLOAD_ID.fullmatch(upload_id):
            listed, _ = await self.store.list(UPLOADS, prefix=upload_id + "/", limit=1)
            for info in await describe(self.store, UPLOADS, listed):
                if _may_read(info, principal):
                    return info
        raise ObjectNotFound(key=upload_id[:64], hint="`python -m devkit_api inputs list` shows the uploads.")

    async def freeze(
        self, run_id: str, context: dict[str, Any] | None, principal: Principal, find_run: FindRun
    ) -> dict[str, Any] | None:
        """The context with what it names frozen and described; one that names no data stays as it is.

        Raises `DataContextInvalid` with one finding per wrong source, and then nothing is kept.
        """
        if not context:
            return context
        if "sources" not in context:
            selection = selection_of(context)
            if selection is not None:
                return await self._freeze_view(run_id, context, selection, principal)
            file = file_of(context)
            return await self._freeze_file(run_id, context, file, principal, find_run) if file else context
        sources = _checked(context["sources"])
        try:
            frozen = [
                await self._freeze_source(run_id, f"/sources/{number}", source, principal, find_run)
                for number, source in enumerate(sources)
            ]
            manifest = await self._put_manifest(run_id, frozen)
        except BaseException:
            await self.store.delete_namespace(run_inputs(run_id))
            raise
        return {
            **context,
            "type": context.get("type") or "named",
            "sources": frozen,
            "materialization": self._materialization(run_id, manifest),
        }

    def manifest_uri(self, run_id: str) -> str:
        """The address of the document that lists what a run was given."""
        return uri(self.bucket, run_inputs(run_id), MANIFEST)

    async def discard(self, run_id: str) -> None:
        """Delete everything a run saved and read, and what people attached to it."""
        for namespace in (run_files(run_id), run_inputs(run_id), run_reports(run_id)):
            await self.store.delete_namespace(namespace)

    async def _freeze_view(
        self, run_id: str, context: dict[str, Any], selection: Selection, principal: Principal
    ) -> dict[str, Any]:
        found = await self.views().tables(selection, principal)
        try:
            frozen = [await self._put_table(run_id, selection, table) for table in found.tables]
            manifest = await self._put_manifest(run_id, frozen)
        except BaseException:
            await self.store.delete_namespace(run_inputs(run_id))
            raise
        materialization = self._materialization(run_id, manifest)
        if not found.is_named:
            (only,) = frozen
            materialization = {k: only[k] for k in ("uri", "format", "checksum", "columns")}
            materialization["row_count"] = only["rowCount"]
        told = {"view_id": selection.view_id, "columns": materialization.get("columns", [])}
        ids = {"selected_ids": list(selection.selected_ids), "id_column": selection.id_column}
        return {
            **context,
            "type": TYPE,
            "view_id": selection.view_id,
            "selection": {**told, **(ids if selection.selected_ids else {})},
            "sources": frozen,
            "materialization": materialization,
        }

    async def _freeze_file(
        self, run_id: str, context: dict[str, Any], file: dict[str, Any], principal: Principal, find_run: FindRun
    ) -> dict[str, Any]:
        try:
            only = await self._freeze_source(run_id, "", {**file, "name": ONLY_SOURCE}, principal, find_run)
            await self._put_manifest(run_id, [only])
        except BaseException:
            await self.store.delete_namespace(run_inputs(run_id))
            raise
        told = {k: only[k] for k in ("uri", "format", "checksum", "columns") if k in only}
        rows = {"row_count": only["rowCount"]} if "rowCount" in only else {}
        return {**context, "type": context.get("type") or "uri", "sources": [only], "materialization": {**told, **rows}}

    async def _put_table(self, run_id: str, selection: Selection, table: ViewTable) -> dict[str, Any]:
        name = f"sources/{table.name}"
        expected = Expected(len(table.content), table.sha256)
        info: dict[str, Any] = {"content_type": CONTENT_TYPES[selection.form], "metadata": {}}
        await self.store.put(run_inputs(run_id), name, _once(table.content), expected, info)
        return table.source(uri(self.bucket, run_inputs(run_id), name), selection.form, selection.view_id)

    def _materialization(self, run_id: str, manifest: ObjectInfo) -> dict[str, Any]:
        return {"uri": self.manifest_uri(run_id), "format": "JSON", "checksum": manifest.sha256}

    async def _freeze_source(
        self, run_id: str, where: str, source: dict[str, Any], principal: Principal, find_run: FindRun
    ) -> dict[str, Any]:
        origin, target = source["uri"], f"sources/{source['name']}"
        try:
            copied = await self._copy(origin, run_inputs(run_id), target, principal, find_run)
        except (ObjectNotFound, RunNotFound, DataNotFound, DataUnreadable, ParameterInvalid) as exc:
            raise _refusal(where, "uri", f"cannot be read: {exc.message.rstrip('.')}") from None
        checksum = copied.sha256 or await self._hash(run_inputs(run_id), copied)
        announced = str(source.get("checksum") or checksum).removeprefix("sha256:").lower()
        if announced != checksum or source.get("sizeBytes", copied.size) != copied.size:
            raise _refusal(where, "checksum", "is not the one of the file")
        return {
            "name": source["name"],
            "uri": uri(self.bucket, run_inputs(run_id), target),
            "checksum": checksum,
            "sizeBytes": copied.size,
            "origin": origin,
            **{key: source[key] for key in _TOLD if key in source},
        }

    async def _copy(
        self, origin: str, namespace: str, name: str, principal: Principal, find_run: FindRun
    ) -> ObjectInfo:
        local = _LOCAL.fullmatch(origin)
        if local is not None:
            file = await self.local_data.open(local[1], local[2])
            info: dict[str, Any] = {"content_type": "application/octet-stream", "metadata": {}}
            return await self.store.put(namespace, name, _stream(file), None, info)
        found = locate(self.bucket, origin)
        if found is None:
            raise ObjectNotFound(key=origin[:200])
        await self._check_readable(found, principal, find_run)
        return await self.store.copy(found.namespace, found.name, namespace, name)

    async def _check_readable(self, found: Location, principal: Principal, find_run: FindRun) -> None:
        run_id = run_of(found.namespace)
        if run_id is not None:
            await find_run(run_id, principal)
            return
        info = await self.store.stat(UPLOADS, found.name)
        if info is None or not _may_read(info, principal):
            raise ObjectNotFound(key=found.name)

    async def _put_manifest(self, run_id: str, sources: list[dict[str, Any]]) -> ObjectInfo:
        data = jsonio.canonical({"composition": "named", "runId": run_id, "sources": sources})
        info: dict[str, Any] = {"content_type": "application/json", "metadata": {}}
        return await self.store.put(run_inputs(run_id), MANIFEST, _once(data), None, info)

    async def _hash(self, namespace: str, info: ObjectInfo) -> str:
        digest = hashlib.sha256()
        async for chunk in self.store.read(namespace, info.name, version=info.version):
            digest.update(chunk)
        return digest.hexdigest()

    def _upload_view(self, info: ObjectInfo) -> dict[str, Any]:
        upload_id, _, filename = info.name.partition("/")
        return {
            "uploadId": upload_id,
            "filename": filename,
            "uri": uri(self.bucket, UPLOADS, info.name),
            "sizeBytes": info.size,
            "checksum": info.sha256,
            "contentType": info.content_type,
            "createdAt": info.created_at,
        }


def _may_read(info: ObjectInfo, principal: Principal) -> bool:
    return principal.may_see(info.metadata.get("user-id", ""), info.metadata.get("organization-id", ""))


def _checked(sources: Any) -> list[dict[str, Any]]:
    """The sources, when each is an object with a name of its own and an address."""
    if not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        finding = {
            "path": "/dataContext/sources",
            "message": "is not a list",
            "expected": f"at most {MAX_SOURCES} sources",
        }
        raise field_error(DataContextInvalid, [finding])
    names = set()
    for number, source in enumerate(sources):
        where = f"/sources/{number}"
        if not isinstance(source, dict):
            raise _refusal(where, "", "is not an object")
        name = source.get("name")
        if not isinstance(name, str) or not SOURCE_NAME.fullmatch(name):
            raise _refusal(where, "name", "is not a name", "a letter, then letters, digits, - and _ (at most 64)")
        if name in names:
            raise _refusal(where, "name", "is used twice", "one source per name")
        names.add(name)
        if not isinstance(source.get("uri"), str):
            raise _refusal(where, "uri", "is missing", "s3://… of an upload or of a run's file, or local://root/path")
    return sources


def _refusal(where: str, field: str, message: str, expected: str = "") -> Exception:
    finding = {"path": f"/dataContext{where}" + (f"/{field}" if field else ""), "message": message}
    return field_error(DataContextInvalid, [{**finding, **({"expected": expected} if expected else {})}])


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _stream(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
    finally:
        file.close()
