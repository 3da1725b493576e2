"""The module registry: modules are taken, published, suspended and deleted, durably."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs

from devkit_api import jsonio
from devkit_api.errors import (
    DevkitError,
    ManifestInvalid,
    ModuleInUse,
    ModuleVersionPublished,
    SourceInvalid,
    SourcePathRefused,
)
from devkit_api.ids import utc_now
from devkit_api.locks import Gate, KeyedLocks
from devkit_api.modules.bundles import Accept, BundleStore
from devkit_api.modules.index import ModuleIndex
from devkit_api.modules.models import SUSPENDED, Bundle, Module, Origin
from devkit_api.modules.schemas import check_manifest
from devkit_api.schemas import field_error
from devkit_api.state import DocumentStore, StateError

log = logging.getLogger(__name__)

COLLECTION = "modules"


class ModuleRuns(Protocol):
    """What deleting a module needs of its runs."""

    def unfinished(self, module_id: str, version: str | None = None) -> list[str]:
        """Ids of the unfinished runs of the module, or of one version of it."""

    async def cancel_all(self, module_id: str, version: str | None = None) -> None:
        """Cancel every unfinished run of the module, or of one version of it."""


@attrs.frozen
class Registration:
    """The outcome of a registration: the module, and whether anything changed."""

    module: Module
    created: bool


class ModuleRegistry(ModuleIndex):
    """The index, and what changes it. What is registered is stored first, then found."""

    def __init__(self, store: DocumentStore, bundles: BundleStore, source_roots: tuple[Path, ...]) -> None:
        super().__init__()
        self._store = store
        self._bundles = bundles
        self._source_roots = source_roots
        self._locks = KeyedLocks()
        self._folders = KeyedLocks()
        # Inside from the first byte of a source to its name: what is cleared is cleared as a whole.
        self._gate = Gate()
        self.on_registered: Callable[[Module], None] = lambda module: None

    async def load(self) -> None:
        """Read what is stored; a document that is not a module is skipped and logged."""
        loaded = []
        async for key, document in self._store.scan(COLLECTION):
            try:
                module = Module.from_document(document)
                if module.key != key:
                    raise ValueError("a copy under another name")
                loaded.append(module)
            except (KeyError, TypeError, ValueError, DevkitError):
                log.error("a stored module cannot be read and is left out", extra={"document": key})
        for module in sorted(loaded, key=lambda module: module.registered_at):
            self._remember(module)

    async def register_external(self, manifest: Any) -> Registration:
        """A module without source: its runs wait for a backend to attach."""
        async with self._gate.entered_when_open():
            return await self._register(check_manifest(manifest), None, Origin.EXTERNAL, None)

    async def register_path(self, path: str, manifest: Any | None) -> Registration:
        """A module from a folder named by a request; it must lie under an allowed root."""
        folder = self._allowed_folder(path)
        return await self.register_folder(folder, Origin.PATH, manifest)

    async def register_folder(self, folder: Path, origin: Origin, manifest: Any | None = None) -> Registration:
        """A module from a folder the caller vouches for."""
        # One at a time of a folder, or an earlier look at it could be registered over a later one.
        async with self._gate.entered_when_open(), self._folders.of(str(folder)):
            bundle, own = await self._bundles.add_folder(folder, _accept(manifest))
            return await self._register(own, bundle, origin, str(folder))

    async def register_zip(self, archive: Path, manifest: Any | None) -> Registration:
        """A module from an uploaded zip."""
        async with self._gate.entered_when_open():
            bundle, own = await self._bundles.add_zip(archive, _accept(manifest))
            return await self._register(own, bundle, Origin.UPLOAD, None)

    async def read_source(self, archive: Path, names: frozenset[str], most: int) -> dict[str, bytes]:
        """Named files of an archive, without registering anything. Raises `SourceInvalid`."""
        return await self._bundles.read_zip(archive, names, most)

    async def register_published(self, archive: Path) -> Registration:
        """A version that will not change, from an examined archive. Raises `ModuleVersionPublished` as well."""
        async with self._gate.entered_when_open():
            bundle, own = await self._bundles.add_zip(archive, _accept(None))
            return await self._register(own, bundle, Origin.PUBLISHED, None)

    async def register_image(self, manifest: dict[str, Any], image_ref: str) -> Registration:
        """A published version whose code is an image elsewhere: an external module."""
        async with self._gate.entered_when_open():
            return await self._register(check_manifest(manifest), None, Origin.PUBLISHED, None, image_ref)

    async def suspend(self, module_id: str, version: str) -> Module:
        """Let a version start no more runs; those it has go on."""
        async with self._gate.entered_when_open(), self._locks.of(module_id):
            suspended = attrs.evolve(self.get(module_id, version), state=SUSPENDED)
            await self._save(suspended)
        return suspended

    async def activate(self, module_id: str, version: str, notes: str | None) -> Module:
        """Make a version the current one, and lift its suspension."""
        async with self._gate.entered_when_open(), self._locks.of(module_id):
            known = self.get(module_id, version)
            active = attrs.evolve(known, state="active", notes=notes, registered_at=utc_now())
            await self._save(active)
        return active

    async def note_problem(self, source_path: str, problem: str) -> None:
        """Remember that the folder of a registered module cannot be used as it is now; its last good form stays."""
        for module in self.every():
            if module.source_path == source_path and module.source_problem != problem:
                async with self._gate.entered_when_open(), self._locks.of(module.module_id):
                    known = self.find(module.module_id, module.version)
                    if known is not None and _same(known, module):  # else it was deleted or registered anew meanwhile
                        await self._save(attrs.evolve(known, source_problem=problem))

    async def delete(self, module_id: str, version: str | None, *, force: bool, runs: ModuleRuns) -> None:
        """Remove a module or one version of it. Raises `ModuleInUse` while runs are unfinished, unless `force`."""
        async with self._gate.entered_when_open(), self._locks.of(module_id):
            self.get(module_id, version)
            unfinished = runs.unfinished(module_id, version)
            if unfinished and not force:
                raise ModuleInUse(module_id=module_id, count=len(unfinished), details={"runs": unfinished[:20]})
            doomed = [self.get(module_id, version)] if version else self.every(module_id)
            # Out of the registry first, so that no run is admitted while the others are being cancelled.
            for module in doomed:
                self._forget(module)
            try:
                await runs.cancel_all(module_id, version)
                for module in doomed:
                    await self._store.delete(COLLECTION, module.key)
            except StateError:
                for module in doomed:
                    self._remember(module)
                raise

    async def clear(self) -> None:
        """Remove every module with its source. Who registers one meanwhile has done so before, or does it after."""
        async with self._gate.closed():
            await self._store.clear(COLLECTION)
            self._forget_all()
            await self._bundles.sweep(set())

    async def _register(
        self,
        manifest: dict[str, Any],
        bundle: Bundle | None,
        origin: Origin,
        source_path: str | None,
        image_ref: str | None = None,
    ) -> Registration:
        module_id = str(manifest.get("id") or manifest["name"])
        async with self._locks.of(module_id):
            known = self.find(module_id, str(manifest["version"]))
            module = Module(
                module_id=module_id,
                version=str(manifest["version"]),
                manifest=manifest,
                origin=origin,
                registered_at=utc_now(),
                bundle=bundle,
                source_path=source_path,
                image_ref=image_ref,
            )
            if known is not None and await self._stays_or_notes(known, module):
                return Registration(self.get(module_id, module.version), created=False)
            await self._save(module)
            await self._note_unused(module, None)
        self.on_registered(module)
        log.info("module registered", extra={"module_id": module_id, "version": module.version, "origin": origin.value})
        return Registration(module, created=known is None)

    async def _stays_or_notes(self, known: Module, module: Module) -> bool:
        """As `_stays`; that a saved edit is of no use is noted too, as a watched folder is answered by nobody."""
        try:
            stays = self._stays(known, module)
        except ModuleVersionPublished as exc:
            await self._note_unused(module, f"An edit is not used: {exc.message} {exc.advice}")
            raise
        if stays:
            await self._note_unused(module, None)
        return stays

    async def _note_unused(self, module: Module, problem: str | None) -> None:
        """Tell of a watched folder's `problem` where no version has the folder's path: on the current one."""
        if module.origin is not Origin.DIRECTORY:
            return
        current = self.find(module.module_id)
        for other in self.every(module.module_id):
            told = problem if other is current else None
            if other.source_path is None and other.source_problem != told:
                noted = attrs.evolve(other, source_problem=told)
                await self._store.put(COLLECTION, noted.key, noted.to_document())
                self._replace(noted)

    def _stays(self, known: Module, module: Module) -> bool:
        """Whether `known` already is what `module` would make it. Raises `ModuleVersionPublished`."""
        if known.origin is Origin.PUBLISHED:
            if any(getattr(known, name) != getattr(module, name) for name in ("bundle", "manifest", "image_ref")):
                raise ModuleVersionPublished(module_id=known.module_id, version=known.version)
            return True
        return _same(known, module) and (known.is_suspended or known is self.find(known.module_id))

    async def _save(self, module: Module) -> None:
        await self._store.put(COLLECTION, module.key, module.to_document())
        self._remember(module)

    def _allowed_folder(self, path: str) -> Path:
        if "\0" in path or not Path(path).is_absolute():
            raise SourcePathRefused
        try:
            folder = Path(path).resolve()
        except (OSError, RuntimeError):  # a loop of links
            raise SourcePathRefused from None
        if not any(folder.is_relative_to(root.resolve()) for root in self._source_roots):
            raise SourcePathRefused
        if not os.path.isdir(folder):  # noqa: PTH112  Path.is_dir raises for an overlong name
            raise SourceInvalid(reason="it is not a folder")
        return folder


def _accept(sent: Any | None) -> Accept:
    """Checks a source's own manifest, which is what the SDK's runner reads; a sent one must be the same."""

    def accept(data: bytes) -> dict[str, Any]:
        try:
            own = jsonio.loads_strict(data)
        except jsonio.JsonRefused as exc:
            raise SourceInvalid(reason=f"manifest.json: {exc}") from None
        manifest = check_manifest(own)
        if sent is not None and sent != own:
            finding = {"path": "/manifest", "message": "differs from the manifest.json of the source"}
            raise field_error(ManifestInvalid, [finding])
        return manifest

    return accept


def _same(one: Module, other: Module) -> bool:
    ignored = {"registered_at", "state", "notes"}
    return all(getattr(one, f.name) == getattr(other, f.name) for f in attrs.fields(Module) if f.name not in ignored)
