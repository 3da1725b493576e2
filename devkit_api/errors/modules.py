"""Modules, their manifests and their sources."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class ManifestInvalid(DevkitError):
    """The manifest breaks the rules of the SDK's manifest schema."""

    code = "MANIFEST_INVALID"
    status = 422
    template = "The manifest has {count} problem(s): {summary}."
    hint = "Fix the fields in `details.errors`; `hla-compass validate` checks the same rules in your module's folder."


class ModuleNotFound(DevkitError):
    """No module, or no such version of it, is registered."""

    code = "MODULE_NOT_FOUND"
    status = 404
    template = "Module {module_id!r} is not registered{version}."
    hint = "GET /v1/modules lists what is; `python -m devkit_api register PATH` adds one."


class ModuleNotChosen(DevkitError):
    """The request names no module, and which one is meant is not clear."""

    code = "MODULE_NOT_CHOSEN"
    status = 422
    template = "No module was named, and {reason}."
    hint = "Name one in `module`; GET /v1/modules lists them."
    example = '{"module": "my-module", "input": {}}'


class ModuleInUse(DevkitError):
    """The module has unfinished runs."""

    code = "MODULE_IN_USE"
    status = 409
    template = "Module {module_id!r} has {count} unfinished run(s)."
    hint = "Wait for them or cancel them, or delete with ?force=true to cancel them as well."


class ModuleUnsupported(DevkitError):
    """The module needs something this devkit does not execute."""

    code = "MODULE_UNSUPPORTED"
    status = 422
    template = "Module {module_id!r} cannot run here: {reason}."
    hint = "See docs/troubleshooting.md for what runs locally."


class SourceInvalid(DevkitError):
    """The module source cannot be used."""

    code = "SOURCE_INVALID"
    status = 422
    template = "The module source cannot be used: {reason}."
    hint = "Send a zip of the module's folder, manifest.json at its top, regular files only."


class SourcePathRefused(DevkitError):
    """`source.path` is not under a directory the devkit may read modules from."""

    code = "SOURCE_PATH_REFUSED"
    status = 403
    template = "The source path is not under a directory that modules may be registered from."
    hint = "Start with `--modules DIR`, or name the directory in DEVKIT_SOURCE_ROOTS."
