"""Manifest rules as marshmallow schemas. Source: `manifest_schema_v1.json` of hla-compass 6.0.2 and wire-contract I.

Unknown keys pass, as the SDK's schema lets them; the registry keeps the manifest as it came.
"""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from devkit_api.errors import ManifestInvalid
from devkit_api.ids import MODULE_ID, VERSION
from devkit_api.modules.contracts import contract_problem
from devkit_api.modules.data_roles import role_problem
from devkit_api.schemas import OpenSchema, StrictSchema, load

_ENTRYPOINT = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{1,48}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MODES = ("interactive", "async", "workflow")


def _full(pattern: re.Pattern[str], message: str) -> Any:
    def check(value: str) -> None:
        if not pattern.fullmatch(value):
            raise ValidationError(message)

    return check


def _is_boolean(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValidationError("is not true or false")


def _about(expected: str, example: Any) -> dict[str, Any]:
    return {"expected": expected, "example": example}


class ExecutionSchema(OpenSchema):
    """`execution`: where the module's class is and which modes it takes."""

    entrypoint = fields.String(
        required=True,
        validate=_full(_ENTRYPOINT, "is not package.module:Class"),
        metadata=_about("package.module:Class", "backend.main:MyModule"),
    )
    supports = fields.List(fields.String(validate=validate.OneOf(_MODES)), metadata=_about("a list of modes", _MODES))
    defaultMode = fields.String(validate=validate.OneOf(_MODES), metadata=_about("one of the modes", "interactive"))


class ResourcesSchema(OpenSchema):
    """`resources`: memory in MiB, times in seconds."""

    memory = fields.Integer(
        strict=True,
        validate=validate.OneOf([256, 512, 1024, 2048, 4096]),
        metadata=_about("MiB: 256, 512, 1024, 2048 or 4096", 512),
    )
    memoryMb = fields.Integer(strict=True, validate=validate.Range(256), metadata=_about("MiB, at least 256", 512))
    vcpus = fields.Integer(strict=True, validate=validate.Range(1), metadata=_about("cores, at least 1", 1))
    gpu = fields.Integer(strict=True, validate=validate.Range(0), metadata=_about("GPUs, 0 or more", 0))
    maxRuntimeSeconds = fields.Integer(
        strict=True, validate=validate.Range(60, 14400), metadata=_about("seconds, 60 to 14400", 3600)
    )
    timeout = fields.Integer(strict=True, validate=validate.Range(3, 900), metadata=_about("seconds, 3 to 900", 300))


class PermissionsSchema(OpenSchema):
    """`permissions`: who may start the module."""

    database = fields.Boolean(
        truthy={False}, falsy={False}, metadata=_about("false, or leave it out", False), error_messages={
            "invalid": "must be false: modules read data with the run's own key"
        }
    )  # fmt: skip
    requiredRoles = fields.List(
        fields.String(validate=validate.OneOf(["user", "developer", "org_admin", "platform_admin"])),
        metadata=_about("a list of roles", ["developer"]),
    )


class TierSchema(OpenSchema):
    """One price."""

    tier = fields.String(
        required=True,
        validate=validate.OneOf(["developer", "foundational", "advanced", "strategic"]),
        metadata=_about("developer, foundational, advanced or strategic", "developer"),
    )
    model = fields.String(
        validate=validate.OneOf(["subscription", "usage-based"]),
        metadata=_about("subscription or usage-based", "usage-based"),
    )
    amountAct = fields.Float(
        required=True, allow_nan=False, validate=validate.Range(0), metadata=_about("a number, 0 or more", 0.5)
    )


_TIER = {"tier": "developer", "model": "usage-based", "amountAct": 0.5}


class PricingSchema(OpenSchema):
    """`pricing`: what a run costs on the platform; the devkit charges nothing."""

    tiers = fields.List(
        fields.Nested(TierSchema, metadata=_about("an object with tier and amountAct", _TIER)),
        metadata=_about("a list of prices", [_TIER]),
    )


class AuthorSchema(OpenSchema):
    """`author`."""

    name = fields.String(
        required=True, validate=validate.Length(1, 200), metadata=_about("1 to 200 characters", "Ada Lovelace")
    )
    email = fields.String(metadata=_about("a text", "ada@lab.example"))


_CONTRACT = {"type": "object", "properties": {"peptide": {"type": "string"}}}


class ManifestSchema(OpenSchema):
    """A module's manifest.json."""

    id = fields.String(
        validate=_full(MODULE_ID, "holds other characters than letters, digits, '.', '_' and '-'"),
        metadata=_about("letters, digits, '.', '_', '-', at most 100", "peptide-counter"),
    )
    schemaVersion = fields.String(validate=validate.Equal("1.0"), metadata=_about('"1.0"', "1.0"))
    name = fields.String(
        required=True,
        validate=[validate.Length(3, 50), _full(_NAME, "holds other characters than a-z, 0-9 and '-'")],
        metadata=_about("3 to 50 of a-z, 0-9 and '-'", "peptide-counter"),
    )
    version = fields.String(
        required=True,
        validate=_full(VERSION, "is not three numbers"),
        metadata=_about("three numbers from 0 to 999, without leading zeros", "1.0.0"),
    )
    type = fields.String(
        required=True, validate=validate.OneOf(["no-ui", "with-ui"]), metadata=_about("no-ui or with-ui", "no-ui")
    )
    computeType = fields.String(
        validate=validate.OneOf(["lambda", "fargate", "batch", "pipeline", "docker"]),
        metadata=_about("lambda, fargate, batch or pipeline", "fargate"),
    )
    scope = fields.String(validate=validate.OneOf(["org", "public"]), metadata=_about("org or public", "org"))
    description = fields.String(validate=validate.Length(max=500), metadata=_about("at most 500 characters", "…"))
    displayName = fields.String(
        validate=validate.Length(max=200), metadata=_about("at most 200 characters", "Peptide counter")
    )
    category = fields.String(validate=validate.Length(max=200), metadata=_about("at most 200 characters", "analysis"))
    tags = fields.List(
        fields.String(), validate=validate.Length(max=10), metadata=_about("a list of at most 10 texts", ["hla"])
    )
    author = fields.Nested(AuthorSchema, metadata=_about("an object with name and email", {"name": "Ada Lovelace"}))
    execution = fields.Nested(
        ExecutionSchema,
        required=True,
        metadata=_about("an object with entrypoint and supports", {"entrypoint": "backend.main:MyModule"}),
    )
    resources = fields.Nested(ResourcesSchema, metadata=_about("an object", {"memory": 512, "maxRuntimeSeconds": 600}))
    # "false" as a text must not mean that there is a network.
    network = fields.Raw(validate=_is_boolean, metadata=_about("true or false", False))
    permissions = fields.Nested(PermissionsSchema, metadata=_about("an object", {"requiredRoles": ["developer"]}))
    pricing = fields.Nested(PricingSchema, metadata=_about("an object with tiers", {"tiers": [_TIER]}))
    environment_variables = fields.Dict(keys=fields.String(), metadata=_about("an object of texts", {"MODE": "fast"}))
    inputs = fields.Dict(allow_none=True, metadata=_about("a Draft 7 JSON Schema of an object", _CONTRACT))
    outputs = fields.Dict(allow_none=True, metadata=_about("a Draft 7 JSON Schema of an object", _CONTRACT))

    @validates_schema
    def _check_contracts(self, data: dict[str, Any], **_: Any) -> None:
        problems = {name: contract_problem(data.get(name)) for name in ("inputs", "outputs")}
        problems["inputs"] = problems["inputs"] or role_problem(data.get("inputs"))
        found = {name: [problem] for name, problem in problems.items() if problem}
        if found:
            raise ValidationError(found)

    @validates_schema
    def _check_variables(self, data: dict[str, Any], **_: Any) -> None:
        for name, value in (data.get("environment_variables") or {}).items():
            if not _VARIABLE.fullmatch(name):
                raise ValidationError("holds a name that is no variable name", "environment_variables")
            if not isinstance(value, str | int | float | bool) or "\0" in str(value):
                raise ValidationError(f"{name} is not a text, number or boolean", "environment_variables")

    @validates_schema(pass_original=True)
    def _check_retired(self, _data: dict[str, Any], original: Any, **_: Any) -> None:
        for name in ("dataContextBindings", "data_context_bindings"):
            if isinstance(original, dict) and name in original:
                raise ValidationError("is retired; annotate inputs with x-hla-data-role", name)


class SourceSchema(StrictSchema):
    """`source` of a registration by JSON."""

    path = fields.String(
        required=True,
        validate=validate.Length(1, 4096),
        metadata=_about("an absolute path of the module's folder", "/home/me/modules/peptide-counter"),
    )


class RegisterSchema(StrictSchema):
    """`POST /v1/devkit/modules` as JSON."""

    manifest = fields.Dict(metadata=_about("the content of manifest.json", {"name": "peptide-counter"}))
    source = fields.Nested(SourceSchema)

    @validates_schema
    def _check_either(self, data: dict[str, Any], **_: Any) -> None:
        if "manifest" not in data and "source" not in data:
            raise ValidationError("give a manifest, or a source whose folder holds one", "manifest")


_MANIFEST: Schema = ManifestSchema()


def check_manifest(manifest: Any) -> dict[str, Any]:
    """`manifest` itself when it follows the rules, else `ManifestInvalid` with every finding."""
    load(_MANIFEST, manifest, ManifestInvalid)
    return dict(manifest)
