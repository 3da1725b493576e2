"""Publishing modules and what follows from it."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class PublicationNotFound(DevkitError):
    """There is no such publication, or it is somebody else's."""

    code = "PUBLICATION_NOT_FOUND"
    status = 404
    template = "There is no publication {publish_id!r}."
    hint = "`hla-compass publish` prints the id it was given."


class PublicationConflict(DevkitError):
    """The idempotency key stands for another publication, or for two things at once."""

    code = "PUBLICATION_CONFLICT"
    status = 409
    template = "The idempotency key cannot be used: {reason}."
    hint = "Send the same request again, or choose a new key; without `--idempotency-key` the SDK makes one."


class PublicationsOpen(DevkitError):
    """The caller has as many unfinished publications as one may have."""

    code = "PUBLICATIONS_OPEN"
    status = 429
    template = "You have {count} unfinished publications, and no more are taken."
    hint = "Submit them or wait: an upload that is not submitted is forgotten {minutes} minutes after its grant."


class SourceNotUploaded(DevkitError):
    """A publication was submitted whose source never arrived."""

    code = "SOURCE_NOT_UPLOADED"
    status = 409
    template = "The source of this publication has not been uploaded: {reason}."
    hint = "POST …/publish/source-upload, PUT the archive to the address it answers, then submit."


class SourceTooLarge(DevkitError):
    """The announced source archive is larger than the devkit takes."""

    code = "SOURCE_TOO_LARGE"
    status = 413
    template = "The source archive has {size} bytes; at most {limit} are taken."
    hint = "Leave data out of the module's folder, or raise DEVKIT_MAX_SOURCE_BYTES."


class SignatureMismatch(DevkitError):
    """The manifest is not signed by the key it carries."""

    code = "MANIFEST_SIGNATURE_INVALID"
    status = 422
    template = "The signature of the manifest is not valid: {reason}."
    hint = "Publish with `hla-compass publish`, which signs the manifest as it is sent."


class DependencyLockInvalid(DevkitError):
    """backend/requirements.lock.txt is missing, incomplete, or does not fit requirements.txt."""

    code = "DEPENDENCY_LOCK_INVALID"
    status = 422
    template = "The dependency lock cannot be used: {reason}."
    hint = "Write it anew: `python -m devkit_api lock MODULE`."


class ModuleVersionPublished(DevkitError):
    """A published version does not change."""

    code = "MODULE_VERSION_PUBLISHED"
    status = 409
    template = "Version {version} of module {module_id!r} is published, and published versions do not change."
    hint = "Raise `version` in manifest.json, or delete the published version first."


class ModuleSuspended(DevkitError):
    """The version of the module is suspended."""

    code = "MODULE_SUSPENDED"
    status = 409
    template = "Version {version} of module {module_id!r} is suspended and starts no runs."
    hint = "Start another version, or lift the suspension with PUT /v1/modules/{module_id}/publish."


class DeploymentNotFound(DevkitError):
    """The module has no such deployment."""

    code = "DEPLOYMENT_NOT_FOUND"
    status = 404
    template = "There is no deployment {deployment_id!r} of this module."
    hint = "`deploy_module` answers the id of a new one."
