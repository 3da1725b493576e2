"""The base of every marshmallow schema, and how its findings become an error that teaches."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, INCLUDE, RAISE, Schema, ValidationError, fields

from devkit_api.errors import DevkitError, RequestInvalid

MAX_REPORTED = 20
# What the headers of every object store take as it is.
_MEDIA_TYPE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


class StrictSchema(Schema):
    """For the devkit's own bodies: an unknown field is an error, most often a typing mistake.

    `old_names`: spellings that are taken for another field, see `deprecation.py`.
    """

    old_names: ClassVar[Mapping[str, str]] = {}

    class Meta:
        """Refuse what is not declared."""

        unknown = RAISE


class OpenSchema(Schema):
    """For documents of others: unknown fields pass."""

    class Meta:
        """Ignore what is not declared; the caller keeps the original document."""

        unknown = EXCLUDE


class AnswerSchema(Schema):
    """What an answer holds at least; it tells readers of the API reference and is not applied to answers."""

    class Meta:
        """An answer may grow."""

        unknown = INCLUDE


def moment(*, required: bool = True) -> fields.String:
    """A field of an answer that holds a point in time, in ISO 8601 UTC."""
    return fields.String(required=required, metadata={"format": "date-time"})


class PaginationSchema(AnswerSchema):
    """Where a page stands among all (wire-contract B.1)."""

    page = fields.Integer(required=True)
    limit = fields.Integer(required=True)
    total = fields.Integer(required=True)
    pages = fields.Integer(required=True)


class Base64Sha256(fields.String):
    """SHA-256 in base64; loaded as hex."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            raw = base64.b64decode(super()._deserialize(value, attr, data, **kwargs), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            raise ValidationError("must be a SHA-256 in base64")
        return raw.hex()


def printable(low: int, high: int) -> Callable[[str], None]:
    """A check for texts of so many printable characters, without blanks around them."""

    def check(value: str) -> None:
        if not low <= len(value) <= high or value != value.strip() or not value.isprintable():
            raise ValidationError(f"must be {low} to {high} printable characters without blanks around them")

    return check


def is_media_type(value: str) -> bool:
    """Whether a text can be the content type of a file: ASCII, at most 200 characters, no blanks around them."""
    return _MEDIA_TYPE.fullmatch(value) is not None


def check_media_type(value: str) -> None:
    """A check for content types."""
    if not is_media_type(value):
        raise ValidationError("must be 1 to 200 printable ASCII characters without blanks around them")


def pagination(*, page: int, limit: int, total: int) -> dict[str, int]:
    """The block of `PaginationSchema` for one page of `total` items."""
    return {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}


def load(schema: Schema, data: Any, error: type[DevkitError] = RequestInvalid) -> dict[str, Any]:
    """`data` loaded by `schema`, or `error` with one entry per field: path, message, expected, example."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as exc:
        raise field_error(error, list(_flatten(schema, exc.messages_dict, ""))) from None
    return loaded


def field_error(error: type[DevkitError], findings: list[dict[str, Any]], **fields: Any) -> DevkitError:
    """An error from findings `{path, message, expected?, example?}`."""
    shown = findings[:MAX_REPORTED]
    first = shown[0]
    summary = f"{first['path'] or '/'} {first['message']}"
    if len(findings) > 1:
        summary += f", and {len(findings) - 1} more"
    return error(count=len(findings), summary=summary, details={"errors": shown}, **fields)


def _flatten(schema: Schema | None, messages: Any, path: str) -> Iterator[dict[str, Any]]:
    if isinstance(messages, list):
        for message in messages:
            yield {"path": path, "message": _sentence(message), **_metadata(schema, path)}
    elif isinstance(messages, dict):
        for name, below in messages.items():
            step = "" if name == "_schema" else "/" + str(name)[:100].replace("~", "~0").replace("/", "~1")
            yield from _flatten(schema, below, path + step)


def _sentence(message: Any) -> str:
    text = str(message).rstrip(".")
    return text[:1].lower() + text[1:]


def _metadata(schema: Schema | None, path: str) -> dict[str, Any]:
    """`expected` and `example` of the field at `path`, or of the nearest one around it that tells."""
    current: Any = schema
    found: dict[str, Any] = {}
    for step in path.split("/")[1:]:
        known = getattr(current, "fields", None)
        if isinstance(current, fields.List):
            current = current.inner
        elif known is not None:
            if step not in known:
                return {"expected": "one of " + ", ".join(known)}
            current = known[step]
        else:
            break
        found = {k: v for k, v in current.metadata.items() if k in {"expected", "example"}} or found
        current = current.schema if isinstance(current, fields.Nested) else current
    return found or {"expected": "an object"}
