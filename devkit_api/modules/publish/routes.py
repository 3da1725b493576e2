"""Addresses of publishing, and of what is done with a version afterwards (wire-contract B.3, B.4)."""

from __future__ import annotations

from uuid import UUID

import attrs
from aiohttp import web

from devkit_api.describe import describe
from devkit_api.errors import (
    ChecksumMismatch,
    DependencyLockInvalid,
    DeploymentNotFound,
    ManifestInvalid,
    ModuleNotFound,
    ModuleSuspended,
    ModuleUnsupported,
    ModuleVersionPublished,
    ParameterInvalid,
    PublicationConflict,
    PublicationNotFound,
    PublicationsOpen,
    SignatureInvalid,
    SignatureMismatch,
    SourceInvalid,
    SourceNotUploaded,
    SourceTooLarge,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.modules.publish.deployments import Deployment, DeploymentService
from devkit_api.modules.publish.lockfile import publishing_sdk
from devkit_api.modules.publish.schemas import ActivateSchema, DeploySchema, GrantSchema, SubmitSchema
from devkit_api.modules.publish.service import PublishService
from devkit_api.modules.publish.uploads import PATH
from devkit_api.modules.routes import REGISTRY
from devkit_api.public_address import PublicAddress
from devkit_api.routing import Body, Route

PUBLISH: web.AppKey[PublishService] = web.AppKey("publish", PublishService)
DEPLOYMENTS: web.AppKey[DeploymentService] = web.AppKey("deployments", DeploymentService)
PUBLISH_ADDRESS: web.AppKey[PublicAddress] = web.AppKey("publish_address", PublicAddress)

_GRANT, _SUBMIT, _ACTIVATE, _DEPLOY = GrantSchema(), SubmitSchema(), ActivateSchema(), DeploySchema()
_CHUNK = 256 * 1024
_OBJECT = {"type": "object"}
_SUBMIT_ERRORS = (
    ManifestInvalid, ModuleUnsupported, PublicationConflict, PublicationsOpen, SourceInvalid, SourceNotUploaded,
    SourceTooLarge, SignatureMismatch, DependencyLockInvalid, ModuleVersionPublished,
)  # fmt: skip
_EXAMPLE = {
    "manifest": {"name": "peptide-counter", "version": "1.0.0", "signature": "…"},
    "sha256": "0" * 64,
    "sizeBytes": 4096,
    "idempotencyKey": "0d4ea0c6-5f55-4b0e-9d0e-0f7f1d1c9b11",
}


@describe(answer=_OBJECT)
async def config(_request: web.Request) -> web.Response:
    """`GET /v1/modules/publish/config`: the SDK that published modules are locked to."""
    return json_answer({"publishingSdk": publishing_sdk()})


@describe(body=GrantSchema, example=_EXAMPLE, answer=_OBJECT, errors=_SUBMIT_ERRORS)
async def grant(request: web.Request) -> web.Response:
    """`POST /v1/modules/publish/source-upload`."""
    body = await read_body(request, _GRANT)
    base_url = request.app[PUBLISH_ADDRESS].base_url
    return json_answer(await request.app[PUBLISH].grant(body, request[PRINCIPAL], base_url))


@describe(binary_body=True, errors=(SignatureInvalid, ChecksumMismatch, PublicationNotFound, SourceTooLarge))
async def upload(request: web.Request) -> web.Response:
    """`PUT /v1/modules/publish/uploads/{publish_id}` with a signed address."""
    chunks = request.content.iter_chunked(_CHUNK)
    await request.app[PUBLISH].upload(request.match_info["publish_id"], request.query, chunks)
    return web.Response()


@describe(
    body=SubmitSchema,
    example={"manifest": _EXAMPLE["manifest"], "imageRef": "ghcr.io/lab/peptide-counter:1.0.0", "dryRun": True},
    answer=_OBJECT,
    status=202,
    answers={200: "A dry run: the image's name is well-formed."},
    errors=_SUBMIT_ERRORS,
)
async def submit(request: web.Request) -> web.Response:
    """`POST /v1/modules/publish`."""
    body = await read_body(request, _SUBMIT)
    service, principal = request.app[PUBLISH], request[PRINCIPAL]
    if body.get("dryRun"):
        service.check_image(body, principal)
        # Nobody vouches for images here, and saying so is better than an invented signer.
        return json_answer({"dryRun": True, "valid": True, "trustedSigners": []})
    publication = await service.submit(body, principal, request.headers.get("Idempotency-Key"))
    return json_answer(publication.answer(), status=202)


@describe(answer=_OBJECT, errors=(PublicationNotFound,))
async def status(request: web.Request) -> web.Response:
    """`GET /v1/modules/publish/{publish_id}`."""
    return json_answer(request.app[PUBLISH].get(request.match_info["publish_id"], request[PRINCIPAL]).answer())


@describe(
    body=ActivateSchema,
    example={"version": "1.0.0"},
    answer=_OBJECT,
    errors=(ModuleNotFound, ModuleSuspended, ModuleVersionPublished),
)
async def activate(request: web.Request) -> web.Response:
    """`PUT /v1/modules/{module_id}/publish`: the version becomes the current one, and starts runs."""
    body = await read_body(request, _ACTIVATE)
    module = await request.app[REGISTRY].activate(request.match_info["module_id"], body["version"], body["notes"])
    return json_answer({"status": "published", "module": module.details()})


@describe(answer=_OBJECT, errors=(ModuleNotFound,))
async def suspend(request: web.Request) -> web.Response:
    """`POST /v1/modules/{module_id}/versions/{version}/suspend`."""
    module = await request.app[REGISTRY].suspend(request.match_info["module_id"], request.match_info["version"])
    return json_answer({"status": "suspended", "module": module.details()})


@describe(
    body=DeploySchema,
    body_optional=True,
    example={"deployment_target": "auto"},
    answer=_OBJECT,
    status=202,
    errors=(ModuleNotFound, ModuleSuspended, ParameterInvalid),
)
async def deploy(request: web.Request) -> web.Response:
    """`POST /v1/modules/{module_id}/deploy`, the id being the module's UUID."""
    module_uuid = _uuid(request)
    body = await read_body(request, _DEPLOY, optional=True)
    target = body["deployment_target"]
    made, name = await request.app[DEPLOYMENTS].deploy(module_uuid, body.get("version"), target)
    answer = {**_shown(made, module_uuid), "module_name": name, "dispatch_state": "submitted"}
    return json_answer(answer, status=202)


@describe(answer=_OBJECT, errors=(DeploymentNotFound, ModuleNotFound, ParameterInvalid))
async def deployment(request: web.Request) -> web.Response:
    """`GET /v1/modules/{module_id}/deployments/{deployment_id}`."""
    module_uuid = _uuid(request)
    found = request.app[DEPLOYMENTS].get(module_uuid, request.match_info["deployment_id"])
    return json_answer({**_shown(found, module_uuid), "endpoints": {}})


def _shown(found: Deployment, module_uuid: str) -> dict[str, str | None]:
    return {**attrs.asdict(found), "module_id": module_uuid}


def _uuid(request: web.Request) -> str:
    try:
        return str(UUID(request.match_info["module_id"]))
    except ValueError:
        expected = "a UUID; GET /v1/modules/{module_id} shows the module's as `uuid`"
        raise ParameterInvalid(
            name="module_id", reason=f"it must be {expected}", details={"expected": expected}
        ) from None


ROUTES = [
    Route("GET", "/v1/modules/publish/config", config, "modules:read"),
    Route("POST", "/v1/modules/publish/source-upload", grant, "modules:publish"),
    Route("PUT", PATH + "/{publish_id}", upload, "objects:signed", stream=True, body=Body.SOURCE),
    Route("POST", "/v1/modules/publish", submit, "modules:publish"),
    Route("GET", "/v1/modules/publish/{publish_id}", status, "modules:read"),
    Route("PUT", "/v1/modules/{module_id}/publish", activate, "modules:publish"),
    Route("POST", "/v1/modules/{module_id}/versions/{version}/suspend", suspend, "modules:publish"),
    Route("POST", "/v1/modules/{module_id}/deploy", deploy, "modules:deploy"),
    Route("GET", "/v1/modules/{module_id}/deployments/{deployment_id}", deployment, "modules:deploy"),
]
