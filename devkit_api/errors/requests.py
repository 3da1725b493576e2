"""What a request can get wrong before any domain looks at it."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class BodyInvalid(DevkitError):
    """The body is not the JSON it claims to be."""

    code = "BODY_INVALID"
    status = 400
    template = "The request body cannot be read: {reason}."
    hint = "Send one JSON object with unique keys, finite numbers and no NUL characters."
    example = '{"moduleId": "my-module", "parameters": {}, "mode": "async"}'


class ParameterInvalid(DevkitError):
    """A query or path parameter has the wrong form."""

    code = "PARAMETER_INVALID"
    status = 400
    template = "Parameter {name!r} is invalid: {reason}."
    hint = "Correct the parameter; `details.expected` says what it takes."


class RequestInvalid(DevkitError):
    """A field of the body is missing, unknown or of the wrong form."""

    code = "REQUEST_INVALID"
    status = 422
    template = "The request has {count} invalid field(s): {summary}."
    hint = "`details.errors` names each field, what is wrong and what is expected."


class RouteNotFound(DevkitError):
    """There is no such address."""

    code = "ROUTE_NOT_FOUND"
    status = 404
    template = "There is no {method} {path} here."
    hint = "GET / lists what there is."


class ErrorCodeUnknown(DevkitError):
    """No error of the devkit has this code."""

    code = "ERROR_CODE_UNKNOWN"
    status = 404
    template = "No error has the code {code!r}."
    hint = "GET /docs/errors lists the codes."


class MethodNotAllowed(DevkitError):
    """The address exists, with other methods."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    template = "{path} does not take {method}."
    hint = "The Allow header lists the methods it takes."


class BodyTooLarge(DevkitError):
    """The body is larger than the limit."""

    code = "BODY_TOO_LARGE"
    status = 413
    template = "The request body is larger than {limit} bytes."
    hint = "Settings: DEVKIT_MAX_BODY_BYTES (JSON), DEVKIT_MAX_SOURCE_BYTES (module), DEVKIT_MAX_OBJECT_BYTES (files)."


class RequestTooSlow(DevkitError):
    """The body arrives too slowly."""

    code = "REQUEST_TOO_SLOW"
    status = 408
    template = "Almost nothing of the request body arrived in {seconds:g} s."
    hint = "Send at least 1 KiB a second; DEVKIT_CLIENT_TIMEOUT sets the patience."


class MediaTypeUnsupported(DevkitError):
    """The content type is not one this address takes."""

    code = "MEDIA_TYPE_UNSUPPORTED"
    status = 415
    template = "Content-Type {content_type!r} is not taken here; expected {expected}."
    hint = "Set the Content-Type header to what the body is."


class BadRequest(DevkitError):
    """Any other request that is not well-formed HTTP for this address."""

    code = "BAD_REQUEST"
    status = 400
    template = "The request is malformed: {reason}."
    hint = "Correct the request and send it again."
