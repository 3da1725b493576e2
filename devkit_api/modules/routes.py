"""Addresses of modules."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiofiles.os import wrap
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from devkit_api import jsonio
from devkit_api.describe import PAGING, describe, text
from devkit_api.errors import (
    BadRequest,
    BodyInvalid,
    BodyTooLarge,
    ManifestInvalid,
    MediaTypeUnsupported,
    ModuleInUse,
    ModuleNotFound,
    SourceInvalid,
    SourcePathRefused,
)
from devkit_api.httpio import BODY_LIMITS, int_query, json_answer, json_bytes, read_body, text_query
from devkit_api.middleware import audit
from devkit_api.modules.answers import DeletedModuleSchema, ModuleDetailsSchema, ModulePageSchema, RegisteredSchema
from devkit_api.modules.schemas import RegisterSchema
from devkit_api.modules.service import ModuleRegistry, ModuleRuns, Registration
from devkit_api.routing import Body, Route

REGISTRY: web.AppKey[ModuleRegistry] = web.AppKey("module_registry", ModuleRegistry)
MODULE_RUNS: web.AppKey[ModuleRuns] = web.AppKey("module_runs", ModuleRuns)
INCOMING: web.AppKey[Path] = web.AppKey("incoming", Path)

_REGISTER = RegisterSchema()
_MAX_MANIFEST = 1024 * 1024
_VERSION = text("version", "One version; the newest without it.", example="1.0.0")
_MODULE_LINK = {"operationId": "get_v1_modules_module_id", "parameters": {"module_id": "$response.body#/module/id"}}
# An external module: no source, so nothing has to lie on the server's disk.
_EXAMPLE = {
    "manifest": {
        "schemaVersion": "1.0",
        "name": "peptide-counter",
        "version": "1.0.0",
        "type": "no-ui",
        "description": "Counts peptides by length",
        "execution": {"entrypoint": "backend.main:PeptideCounter", "supports": ["interactive", "async"]},
    }
}
_FORM = {
    "manifest": {"type": "string", "description": "The content of manifest.json; needed when the archive holds none."},
    "source": {"type": "string", "format": "binary", "description": "A zip of the module's folder."},
}
# What aiohttp's reader raises for a body that is not the multipart it claims to be.
_FORM_ERRORS = (ValueError, AssertionError, RuntimeError, EOFError, HttpProcessingError)


@describe(
    query=(
        *PAGING,
        text("category", "Only modules of this category."),
        text("search", "Only modules whose name or description holds this text."),
    ),
    answer=ModulePageSchema,
)
async def list_modules(request: web.Request) -> web.Response:
    """`GET /v1/modules?page&limit&category&search`."""
    body = request.app[REGISTRY].page(
        page=int_query(request, "page", 1, low=1, high=1_000_000),
        limit=int_query(request, "limit", 100, low=1, high=1000),
        category=text_query(request, "category"),
        search=text_query(request, "search"),
    )
    return json_bytes(body)


@describe(query=(_VERSION,), answer=ModuleDetailsSchema, errors=(ModuleNotFound,))
async def get_module(request: web.Request) -> web.Response:
    """`GET /v1/modules/{module_id}?version`."""
    registry = request.app[REGISTRY]
    module = registry.get(request.match_info["module_id"], text_query(request, "version"))
    return json_answer({**module.details(), "versions": registry.versions(module.module_id)})


@describe(
    body=RegisterSchema,
    form=_FORM,
    example=_EXAMPLE,
    answer=RegisteredSchema,
    status=201,
    answers={200: "This version was known already; it is as it was sent now."},
    errors=(ManifestInvalid, SourceInvalid, SourcePathRefused, ModuleInUse),
    links={"module": _MODULE_LINK},
)
async def register_module(request: web.Request) -> web.Response:
    """`POST /v1/devkit/modules`: JSON, or multipart with `manifest` and `source`."""
    if request.content_type == "multipart/form-data":
        registration = await _register_upload(request)
    else:
        registration = await _register_json(request)
    audit.about(request, module_id=registration.module.module_id, version=registration.module.version)
    body = {"status": "registered", "module": registration.module.details()}
    return json_answer(body, status=201 if registration.created else 200)


@describe(
    query=(_VERSION, text("force", "`true` cancels the module's unfinished runs first.")),
    answer=DeletedModuleSchema,
    errors=(ModuleNotFound, ModuleInUse),
)
async def delete_module(request: web.Request) -> web.Response:
    """`DELETE /v1/devkit/modules/{module_id}?version&force`."""
    module_id = request.match_info["module_id"]
    force = request.query.get("force", "").lower() in {"1", "true", "yes"}
    await request.app[REGISTRY].delete(
        module_id, text_query(request, "version"), force=force, runs=request.app[MODULE_RUNS]
    )
    return json_answer({"status": "deleted", "moduleId": module_id})


async def _register_json(request: web.Request) -> Registration:
    registry = request.app[REGISTRY]
    body = await read_body(request, _REGISTER)
    if "source" in body:
        return await registry.register_path(body["source"]["path"], body.get("manifest"))
    return await registry.register_external(body["manifest"])


async def _register_upload(request: web.Request) -> Registration:
    limit = request.app[BODY_LIMITS].source_bytes
    manifest: Any | None = None
    with tempfile.TemporaryDirectory(dir=request.app[INCOMING]) as folder:
        archive = Path(folder) / "source.zip"
        received = False
        async for part in await _parts(request):
            if part.name == "manifest" and manifest is None:
                manifest = _manifest_part(await _read_part(part, _MAX_MANIFEST))
            elif part.name == "source" and not received:
                await _save_part(part, archive, limit)
                received = True
            else:
                raise BadRequest(reason="the form takes one `manifest` and one `source`, and nothing else")
        if received:
            return await request.app[REGISTRY].register_zip(archive, manifest)
    if manifest is None:
        raise BadRequest(reason="the form holds neither `manifest` nor `source`")
    return await request.app[REGISTRY].register_external(manifest)


async def _parts(request: web.Request) -> Any:
    try:
        reader = await request.multipart()
    except (AssertionError, ValueError, KeyError):
        raise MediaTypeUnsupported(content_type="multipart/form-data", expected="a boundary") from None
    return _iterate(reader)


async def _iterate(reader: Any) -> Any:
    while True:
        try:
            part = await reader.next()
        except _FORM_ERRORS:
            raise BadRequest(reason="the multipart body is broken") from None
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise BadRequest(reason="a nested multipart body")
        yield part


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = await part.read_chunk(256 * 1024)
        except _FORM_ERRORS:
            raise BadRequest(reason="the multipart body is broken") from None
        if not chunk:
            return
        yield bytes(chunk)


async def _read_part(part: BodyPartReader, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in _chunks(part):
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
        chunks.append(chunk)
    return b"".join(chunks)


async def _save_part(part: BodyPartReader, target: Path, limit: int) -> None:
    import aiofiles

    size = 0
    async with aiofiles.open(target, "wb") as file:
        async for chunk in _chunks(part):
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(limit=limit, headers={"Connection": "close"})
            await file.write(chunk)


def _manifest_part(data: bytes) -> Any:
    try:
        return jsonio.loads_strict(data)
    except jsonio.JsonRefused as exc:
        raise BodyInvalid(reason=f"manifest: {exc}") from None


@wrap
def prepare_incoming(folder: Path) -> None:
    """Make the folder for uploads in progress afresh: what an unclean stop left in it is of no use."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


ROUTES = [
    Route("GET", "/v1/modules", list_modules, "modules:read"),
    Route("GET", "/v1/modules/{module_id}", get_module, "modules:read"),
    Route("POST", "/v1/devkit/modules", register_module, "modules:write", stream=True, body=Body.FORM),
    Route("DELETE", "/v1/devkit/modules/{module_id}", delete_module, "modules:delete"),
    Route("DELETE", "/v1/modules/{module_id}", delete_module, "modules:delete"),
]
