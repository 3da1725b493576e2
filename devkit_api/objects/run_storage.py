"""The run storage broker: what a module asks for through `self.storage` (wire-contract D)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from devkit_api.errors import BodyTooLarge, ObjectKeyInvalid, ObjectNotFound, RequestInvalid
from devkit_api.objects.protocol import Expected, ObjectStore, check_name
from devkit_api.objects.signed_urls import MAX_SECONDS, UrlSigner
from devkit_api.runs.context import PublicAddress
from devkit_api.runs.models import Run
from devkit_api.schemas import StrictSchema, field_error

ACTIONS = ("put", "get", "presign", "list", "delete", "input", "input_manifest")
URL_SECONDS = 900
PAGE = 1000
_MAX_METADATA = 2048


class StorageSchema(StrictSchema):
    """A broker request."""

    action = fields.String(required=True, validate=validate.OneOf(ACTIONS), metadata={"expected": ", ".join(ACTIONS)})
    key = fields.String(metadata={"expected": "a relative path", "example": "results/table.csv"})
    contentType = fields.String(validate=validate.Length(1, 200), load_default="application/octet-stream")
    contentLength = fields.Integer(strict=True, validate=validate.Range(0))
    contentMd5 = fields.String(validate=validate.Length(max=32))
    contentSha256 = fields.String(metadata={"expected": "SHA-256 in base64"})
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    expiresIn = fields.Integer(
        strict=True, validate=validate.Range(1, MAX_SECONDS), metadata={"expected": f"seconds, 1 to {MAX_SECONDS}"}
    )
    prefix = fields.String(load_default="", validate=validate.Length(max=512))
    pageToken = fields.String(allow_none=True, validate=validate.Length(max=1024))
    name = fields.String(validate=validate.Length(1, 64))

    @validates_schema
    def _check_needs(self, data: dict[str, Any], **_: Any) -> None:
        needs = {"put": ("key", "contentLength", "contentSha256"), "get": ("key",), "presign": ("key",),
                 "delete": ("key",), "input": ("name",)}  # fmt: skip
        missing = {name: ["is missing"] for name in needs.get(data.get("action", ""), ()) if name not in data}
        if missing:
            raise ValidationError(missing)
        if not data.get("contentType", "").isprintable():
            raise ValidationError("holds control characters", "contentType")


class RunStorage:
    """Answers broker requests for a run that is working."""

    def __init__(
        self, store: ObjectStore, urls: UrlSigner, address: PublicAddress, bucket: str, max_object_bytes: int
    ) -> None:
        self._store = store
        self._urls = urls
        self._address = address
        self._bucket = bucket
        self._max_object_bytes = max_object_bytes

    async def answer(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        """The broker's answer to one request."""
        action = request["action"]
        if action == "put":
            return self._put(run, request)
        if action == "list":
            return await self._list(run, request)
        if action in {"input", "input_manifest"}:
            raise ObjectNotFound(
                key=request.get("name") or "input manifest", hint="The run was started without inputs."
            )
        key = check_name(request["key"])
        if action == "delete":
            await self._store.delete(run.run_id, key)
            return {"deleted": True, "key": key}
        if await self._store.stat(run.run_id, key) is None:
            raise ObjectNotFound(key=key)
        seconds = request.get("expiresIn") or URL_SECONDS
        return {
            "url": self._urls.get_url(self._address.base_url, run.run_id, key, seconds),
            "method": "GET",
            "expiresIn": seconds,
        }

    async def files(self, run_id: str, *, token: str | None, limit: int) -> dict[str, Any]:
        """A run's saved files for whoever may read the run, each with a short-lived address; also after its end."""
        objects, more = await self._store.list(run_id, prefix="", after=_from_token(token), limit=limit)
        files = [
            {
                "name": o.name,
                "s3Uri": self.uri(run_id, o.name),
                "sizeBytes": o.size,
                "contentType": o.content_type,
                "sha256": o.sha256,
                "createdAt": o.created_at,
                "url": self._urls.get_url(self._address.base_url, run_id, o.name, URL_SECONDS),
            }
            for o in objects
        ]
        return {"runId": run_id, "files": files, "nextToken": _to_token(more) if more else None}

    def uri(self, run_id: str, key: str) -> str:
        """The `s3://` name of a file, which modules put into their results."""
        return f"s3://{self._bucket}/runs/{run_id}/files/{key}"

    def _put(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        key = check_name(request["key"])
        if request["contentLength"] > self._max_object_bytes:
            raise BodyTooLarge(limit=self._max_object_bytes)
        if sum(len(k) + len(v) for k, v in request["metadata"].items()) > _MAX_METADATA:
            finding = {
                "path": "/metadata",
                "message": "is too large",
                "expected": f"at most {_MAX_METADATA} characters",
            }
            raise field_error(RequestInvalid, [finding])
        expected = Expected(request["contentLength"], _sha256_hex(request["contentSha256"]))
        info = {"content_type": request["contentType"], "metadata": request["metadata"]}
        url = self._urls.put_url(
            self._address.base_url, run.run_id, key, seconds=URL_SECONDS, expected=expected, info=info
        )
        headers = {"x-amz-checksum-sha256": request["contentSha256"], "Content-Type": request["contentType"]}
        return {"url": url, "method": "PUT", "headers": headers, "s3Uri": self.uri(run.run_id, key)}

    async def _list(self, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        after = _from_token(request.get("pageToken"))
        objects, more = await self._store.list(run.run_id, prefix=request["prefix"], after=after, limit=PAGE)
        shown = [
            {"key": o.name, "size": o.size, "lastModified": o.created_at, "storageClass": "STANDARD"} for o in objects
        ]
        return {"objects": shown, "nextToken": _to_token(more) if more else None}


def _sha256_hex(text: str) -> str:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        finding = {"path": "/contentSha256", "message": "is not a SHA-256 in base64"}
        raise field_error(RequestInvalid, [finding])
    return digest.hex()


def _to_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str | None) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode() if token else ""
    except ValueError:
        raise ObjectKeyInvalid(reason="the pageToken is not one of ours") from None
