"""The run storage broker: what a module asks for through `self.storage` (wire-contract D)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import attrs
from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.errors import BodyTooLarge, ObjectKeyInvalid, ObjectNotFound, RequestInvalid
from devkit_api.objects.addresses import GET_SECONDS, Addresses
from devkit_api.objects.describe import describe
from devkit_api.objects.inputs import MANIFEST, SOURCE_NAME
from devkit_api.objects.namespaces import run_files, run_inputs, uri
from devkit_api.objects.protocol import Expected, ObjectStore, check_name
from devkit_api.objects.quota import RunQuota
from devkit_api.objects.signed_urls import MAX_SECONDS
from devkit_api.runs.models import Run
from devkit_api.schemas import StrictSchema, check_media_type, field_error
from devkit_api.security.principals import Principal

ACTIONS = ("put", "get", "presign", "list", "delete", "input", "input_manifest")
PAGE = 1000
_MAX_METADATA = 2048
_METADATA_NAME = re.compile(r"(?!devkit-)[a-z0-9._-]{1,100}")
_NO_INPUTS = "The run was started without inputs."


def _check_metadata(value: dict[str, str]) -> None:
    """They become headers, whose case is lost; those of the devkit itself are not a module's to set."""
    names = [name.lower() for name in value]
    if len(set(names)) < len(names) or not all(_METADATA_NAME.fullmatch(name) for name in names):
        raise ValidationError("has a name that is no name of a header, is one of the devkit's, or is there twice")


class StorageSchema(StrictSchema):
    """A broker request."""

    action = fields.String(required=True, validate=validate.OneOf(ACTIONS), metadata={"expected": ", ".join(ACTIONS)})
    key = fields.String(metadata={"expected": "a relative path", "example": "results/table.csv"})
    contentType = fields.String(load_default="application/octet-stream", validate=check_media_type)
    contentLength = fields.Integer(strict=True, validate=validate.Range(0))
    contentMd5 = fields.String(validate=validate.Length(max=32))
    contentSha256 = fields.String(metadata={"expected": "SHA-256 in base64"})
    metadata = fields.Dict(
        keys=fields.String(), values=fields.String(), load_default=dict, validate=_check_metadata,
        metadata={"expected": "texts by names of A-Z a-z 0-9 . _ -", "example": {"tissue": "skin"}},
    )  # fmt: skip
    expiresIn = fields.Integer(
        strict=True, validate=validate.Range(1, MAX_SECONDS), metadata={"expected": f"seconds, 1 to {MAX_SECONDS}"}
    )
    prefix = fields.String(load_default="", validate=validate.Length(max=512))
    pageToken = fields.String(allow_none=True, validate=validate.Length(max=1024))
    name = fields.String(
        validate=validate.Regexp(f"^{SOURCE_NAME.pattern}\\Z"), metadata={"expected": "the name of a source of the run"}
    )

    @validates_schema
    def _check_needs(self, data: dict[str, Any], **_: Any) -> None:
        needs = {"put": ("key", "contentLength", "contentSha256"), "get": ("key",), "presign": ("key",),
                 "delete": ("key",), "input": ("name",)}  # fmt: skip
        missing = {name: ["is missing"] for name in needs.get(data.get("action", ""), ()) if name not in data}
        if missing:
            raise ValidationError(missing)


@attrs.frozen
class RunStorage:
    """Answers broker requests for a run that is working."""

    store: ObjectStore
    addresses: Addresses
    quota: RunQuota
    bucket: str
    max_object_bytes: int

    async def answer(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        """The broker's answer to one request."""
        action = request["action"]
        if action == "put":
            return await self._put(run, request)
        if action == "list":
            return await self._list(run, request)
        if action in {"input", "input_manifest"}:
            return await self._input(run, "sources/" + request["name"] if action == "input" else MANIFEST)
        key = check_name(request["key"])
        if action == "delete":
            async with self.quota.alone_with(run.run_id, key):
                await self.store.delete(run_files(run.run_id), key)
                self.quota.give_back(run.run_id, key)
            return {"deleted": True, "key": key}
        seconds = request.get("expiresIn") or GET_SECONDS
        return await self._get(run, run_files(run.run_id), key, seconds)

    async def files(self, run: Run, principal: Principal, *, token: str | None, limit: int) -> dict[str, Any]:
        """A run's saved files for whoever may read the run, each with a short-lived address; also after its end."""
        namespace, addresses = run_files(run.run_id), self.addresses.for_caller(run, principal)
        listed, more = await self.store.list(namespace, after=from_token(token), limit=limit)
        files = [
            {
                "name": o.name,
                "s3Uri": uri(self.bucket, namespace, o.name),
                "sizeBytes": o.size,
                "contentType": o.content_type,
                "sha256": o.sha256,
                "createdAt": o.created_at,
                "url": await addresses.get(namespace, o),
            }
            for o in await describe(self.store, namespace, listed)
        ]
        return {"runId": run.run_id, "files": files, "nextToken": to_token(more) if more else None}

    async def _get(self, run: Run, namespace: str, name: str, seconds: int = GET_SECONDS) -> dict[str, Any]:
        info = await self.store.stat(namespace, name)
        if info is None:
            raise ObjectNotFound(key=name)
        url = await self.addresses.for_process(run).get(namespace, info, seconds)
        return {"url": url, "method": "GET", "expiresIn": seconds}

    async def _input(self, run: Run, name: str) -> dict[str, Any]:
        try:
            return await self._get(run, run_inputs(run.run_id), name)
        except ObjectNotFound:
            shown = name.removeprefix("sources/")
            hint = "Name it in `sources` of the run's data context." if run.data_context else _NO_INPUTS
            raise ObjectNotFound(key=shown, hint=hint) from None

    async def _put(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        key = check_name(request["key"])
        if request["contentLength"] > self.max_object_bytes:
            raise BodyTooLarge(limit=self.max_object_bytes)
        if sum(len(k) + len(v) for k, v in request["metadata"].items()) > _MAX_METADATA:
            finding = {
                "path": "/metadata",
                "message": "is too large",
                "expected": f"at most {_MAX_METADATA} characters",
            }
            raise field_error(RequestInvalid, [finding])
        expected = Expected(request["contentLength"], _sha256_hex(request["contentSha256"]))
        info = {"content_type": request["contentType"], "metadata": request["metadata"]}
        await self.quota.take(run.run_id, key, expected.size)
        direct = await self.addresses.for_process(run).put(run_files(run.run_id), key, expected, info)
        s3_uri = uri(self.bucket, run_files(run.run_id), key)
        return {"url": direct.url, "method": "PUT", "headers": direct.headers, "s3Uri": s3_uri}

    async def _list(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        after = from_token(request.get("pageToken"))
        objects, more = await self.store.list(run_files(run.run_id), prefix=request["prefix"], after=after, limit=PAGE)
        shown = [
            {"key": o.name, "size": o.size, "lastModified": o.created_at, "storageClass": "STANDARD"} for o in objects
        ]
        return {"objects": shown, "nextToken": to_token(more) if more else None}


def _sha256_hex(text: str) -> str:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        finding = {"path": "/contentSha256", "message": "is not a SHA-256 in base64"}
        raise field_error(RequestInvalid, [finding])
    return digest.hex()


def to_token(name: str) -> str:
    """Where a listing goes on, as a page token."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def from_token(token: str | None) -> str:
    """The name a listing goes on after. Raises `ObjectKeyInvalid`."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode() if token else ""
    except ValueError:
        raise ObjectKeyInvalid(reason="the pageToken is not one of ours") from None
