"""The examination of a published source, phase by phase. Each phase raises a catalogue error or lets it pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from devkit_api import jsonio
from devkit_api.errors import ChecksumMismatch, ManifestInvalid, SourceInvalid, SourceNotUploaded
from devkit_api.modules.publish import lockfile, signature
from devkit_api.modules.publish.models import Phase, Publication
from devkit_api.modules.publish.uploads import Uploads, digest_of
from devkit_api.modules.schemas import check_manifest
from devkit_api.modules.service import ModuleRegistry
from devkit_api.modules.source_files import MANIFEST
from devkit_api.schemas import field_error

_NAMES = frozenset({MANIFEST, lockfile.REQUIREMENTS, lockfile.LOCK})


class Intake:
    """One publication at a time goes through `phases`."""

    def __init__(self, registry: ModuleRegistry, uploads: Uploads) -> None:
        self._registry = registry
        self._uploads = uploads
        self.warnings: tuple[str, ...] = ()
        self.module_id = ""

    async def phases(self, publication: Publication) -> AsyncIterator[Phase]:
        """Yields each phase before it is done; ends when the module is registered.

        Repeating it is harmless: registering the same source again changes nothing.
        """
        files: dict[str, bytes] = {}
        if publication.image_ref is None:
            yield Phase.ARCHIVE
            files = await self._open(publication)
        yield Phase.SIGNATURE
        signature.verify(publication.manifest)
        yield Phase.MANIFEST
        check_manifest(publication.manifest)
        if publication.image_ref is None:
            _compare(publication.manifest, files[MANIFEST])
            yield Phase.DEPENDENCIES
            self.warnings = lockfile.check_lock(files.get(lockfile.REQUIREMENTS), files.get(lockfile.LOCK))
        yield Phase.REGISTRATION
        if publication.image_ref is None:
            registration = await self._registry.register_published(self._uploads.path(publication.publish_id))
        else:
            own = signature.unsigned(publication.manifest)
            registration = await self._registry.register_image(own, publication.image_ref)
        self.module_id = registration.module.module_id

    async def _open(self, publication: Publication) -> dict[str, bytes]:
        path = self._uploads.path(publication.publish_id)
        try:
            digest = await digest_of(path)
        except FileNotFoundError:
            raise SourceNotUploaded(reason="the archive is no longer there") from None
        if digest != publication.sha256:
            raise ChecksumMismatch(what="SHA-256")
        files = await self._registry.read_source(path, _NAMES, lockfile.MAX_BYTES)
        if MANIFEST not in files:
            raise SourceInvalid(reason="there is no manifest.json at its top")
        return files


def _compare(sent: dict[str, Any], data: bytes) -> None:
    """The manifest that was signed must be the one in the archive, which is what runs."""
    try:
        own = jsonio.loads_strict(data)
    except jsonio.JsonRefused as exc:
        raise SourceInvalid(reason=f"manifest.json: {exc}") from None
    one, other = _comparable(sent), _comparable(check_manifest(own))
    if one == other:
        return
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    findings = [
        {"path": f"/{name[:100]}", "message": "is signed otherwise than it is in the archive"} for name in differing
    ]
    raise field_error(ManifestInvalid, findings)


def _comparable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without what the SDK changes before it signs: the alias of a compute type, the key of an image."""
    found = signature.unsigned(manifest)
    if str(found.get("computeType")).strip().lower() == "docker":
        found["computeType"] = "fargate"
    metadata = found.pop("metadata", None)
    if isinstance(metadata, dict):
        metadata = {name: value for name, value in metadata.items() if name != "imageSigning"}
    return {**found, "metadata": metadata} if metadata else found
