"""The error catalogue: one class per code.

Services raise these; `middleware/errors.py` turns them into the one error body. A class states its HTTP status, a
message template, a hint (what to do) and an example where one helps; `docs/errors.md` is made from them.
Message fields are chosen by us, never the text of an unexpected exception, so nothing internal leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

CATALOGUE: dict[str, type[DevkitError]] = {}


class DevkitError(Exception):
    """Base of every error a client may see. Subclasses enter the catalogue by being defined."""

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500
    template: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    example: ClassVar[str] = ""

    def __init__(
        self,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str | None = None,
        **fields: Any,
    ) -> None:
        self.message = self.template.format(**fields)
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.advice = self.hint.format(**fields) if hint is None else hint
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.code in CATALOGUE:
            raise TypeError(f"error code {cls.code} is taken")
        CATALOGUE[cls.code] = cls

    @property
    def docs(self) -> str:
        """Where to read on, relative to the devkit's address."""
        return f"/docs/errors/{self.code}"


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


class ManifestInvalid(DevkitError):
    """The manifest breaks the rules of the SDK's manifest schema."""

    code = "MANIFEST_INVALID"
    status = 422
    template = "The manifest has {count} problem(s): {summary}."
    hint = "Fix the fields in `details.errors`; `hla-compass validate` checks the same rules in your module's folder."


class InputInvalid(DevkitError):
    """The run's parameters break the module's input schema; nothing was queued."""

    code = "INPUT_INVALID"
    status = 422
    template = "The parameters do not fit the inputs of module {module_id!r}: {summary}."
    hint = "`details.errors[].path` is a JSON pointer into `parameters`; the schema is `inputs` of the manifest."


class Unauthorized(DevkitError):
    """No credential, or one that is not valid."""

    code = "UNAUTHORIZED"
    status = 401
    template = "This address needs a valid credential: {reason}."
    hint = 'Run `eval "$(python -m devkit_api env)"` in the shell of the client, or send the key as X-API-Key.'


class LoginRefused(DevkitError):
    """The sign-in or the refresh token is not right."""

    code = "LOGIN_REFUSED"
    status = 401
    template = "Sign-in refused: {reason}."
    hint = "`python -m devkit_api users add EMAIL` adds a local user or gives one a new password."


class Forbidden(DevkitError):
    """The credential is valid, and not enough for this."""

    code = "FORBIDDEN"
    status = 403
    template = "This credential may not do that: {reason}."
    hint = "Use a credential with the needed role or scope."


class SignatureInvalid(DevkitError):
    """A signed object URL was altered, is for another method or has expired."""

    code = "SIGNATURE_INVALID"
    status = 403
    template = "The signed address cannot be used: {reason}."
    hint = "Ask for a fresh address; signed addresses are short-lived and for one purpose."


class OriginRefused(DevkitError):
    """A web page of an origin that is not listed asks for access."""

    code = "ORIGIN_REFUSED"
    status = 403
    template = "Pages of this origin may not call the devkit."
    hint = "Name the origin in DEVKIT_CORS_ORIGINS, for example http://localhost:5173."


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


class RunNotFound(DevkitError):
    """No such run, or none this caller may see."""

    code = "RUN_NOT_FOUND"
    status = 404
    template = "There is no run {run_id!r}."
    hint = "GET /v1/module-runs lists the runs that are kept; finished ones leave after DEVKIT_MAX_STORED_RUNS."


class RunNotFinished(DevkitError):
    """The result is asked for before there is one."""

    code = "RUN_NOT_FINISHED"
    status = 409
    template = "Run {run_id!r} is {status}; it has no result yet."
    hint = "Poll GET /v1/module-runs/{run_id} until `status` is completed, failed, cancelled or timed_out."


class OutputDamaged(DevkitError):
    """The stored output of a run cannot be read any more."""

    code = "OUTPUT_DAMAGED"
    status = 410
    template = "The stored output of run {run_id!r} is damaged."
    hint = "Run the module again; the state directory was changed from outside, or its disk is failing."


class RunConflict(DevkitError):
    """The run's state does not allow this move."""

    code = "RUN_CONFLICT"
    status = 409
    template = "Run {run_id!r} is {status}: {reason}."
    hint = "A finished run never changes."


class QueueFull(DevkitError):
    """As many runs wait as may wait."""

    code = "QUEUE_FULL"
    status = 429
    template = "{count} runs are waiting already, which is the limit."
    hint = "Try again after the seconds in Retry-After; DEVKIT_QUEUE_LIMIT sets the limit."


class RateLimited(DevkitError):
    """The caller sends faster than its bucket refills."""

    code = "RATE_LIMITED"
    status = 429
    template = "Too many {kind} requests."
    hint = "Try again after the seconds in Retry-After; DEVKIT_RATE_LIMIT_* sets the limits."


class PlanInvalid(DevkitError):
    """A prepared plan was altered or has expired unused."""

    code = "PLAN_INVALID"
    status = 409
    template = "The prepared plan cannot be started: {reason}."
    hint = "Prepare it again (`hla-compass runs prepare`), and pass the whole answer unchanged."


class CatalogsOff(DevkitError):
    """The devkit was started without data catalogs."""

    code = "CATALOGS_OFF"
    status = 503
    template = "Data catalogs are switched off."
    hint = "Start the devkit with DEVKIT_CATALOGS=on (the default)."


class CatalogNotFound(DevkitError):
    """No such catalog, or it is not active."""

    code = "CATALOG_NOT_FOUND"
    status = 404
    template = "There is no active data catalog {catalog!r}."
    hint = "GET /v1/data-catalogs (`hla-compass data catalogs`) lists what there is."


class VersionNotFound(DevkitError):
    """No such version of the catalog, or it is not ready."""

    code = "VERSION_NOT_FOUND"
    status = 404
    template = "Catalog {catalog!r} has no ready version {version!r}."
    hint = "Leave `version` out to read the current one; `currentVersion` of the catalog names it."


class QueryParameterInvalid(DevkitError):
    """A filter of a typed read is unknown or malformed."""

    code = "INVALID_QUERY_PARAMETER"
    status = 400
    template = "Parameter {name!r} cannot be used: {reason}."
    hint = "`details.allowed` lists the parameters this address takes."
    example = '{"hla_allele": "HLA-A*02:01", "minLength": 8, "limit": 100}'


class CatalogEntityNotFound(DevkitError):
    """The catalog version holds no such thing."""

    code = "CATALOG_ENTITY_NOT_FOUND"
    status = 404
    template = "The catalog has no {kind} {value!r}."
    hint = "Typed reads of the same kind list what it has."


class StorageVersionUnavailable(DevkitError):
    """Catalogs give no raw storage here; read them over the API."""

    code = "CATALOG_STORAGE_VERSION_UNAVAILABLE"
    status = 403
    template = "This catalog has no verified storage for a version."
    hint = "Read with the typed helpers or `data.sql.query`; the SDK goes on over the API by itself."


class DataViewNotFound(DevkitError):
    """No such data view."""

    code = "DATA_VIEW_NOT_FOUND"
    status = 404
    template = "There is no data view {view_id!r}."
    hint = "GET /v1/data-views lists what there is."


class SqlRefused(DevkitError):
    """The statement is not one that users may run."""

    code = "SQL_REFUSED"
    status = 403
    template = "The statement is refused: {reason}."
    hint = "One SELECT over the catalog's tables, without a schema: docs/catalogs.md lists them."
    example = "SELECT count(*) FROM peptides WHERE length = %s"


class SqlInvalid(DevkitError):
    """PostgreSQL or the parser cannot make sense of the statement."""

    code = "SQL_INVALID"
    status = 400
    template = "The statement cannot be run: {reason}."
    hint = "`details.position` counts characters from 1, `details.line` lines."


class SqlTimeout(DevkitError):
    """The statement took longer than it may."""

    code = "SQL_TIMEOUT"
    status = 422
    template = "The statement was stopped after {seconds:g} s."
    hint = "Filter or aggregate more, or raise DEVKIT_SQL_TIMEOUT."


class SqlResultTooLarge(DevkitError):
    """The answer would be larger than the limit. It is refused, not cut: a cut answer looks like a whole one."""

    code = "SQL_RESULT_TOO_LARGE"
    status = 422
    template = "The result is larger than {limit} {unit}."
    hint = "Aggregate, add LIMIT, or read in pages by key; DEVKIT_SQL_MAX_ROWS and DEVKIT_SQL_MAX_BYTES set the limits."


class ObjectNotFound(DevkitError):
    """The run has no such file."""

    code = "OBJECT_NOT_FOUND"
    status = 404
    template = "There is no file {key!r} in this run."
    hint = "`list` of the run's storage names its files."


class ObjectKeyInvalid(DevkitError):
    """A file key is not a plain relative path."""

    code = "OBJECT_KEY_INVALID"
    status = 422
    template = "The file key is not allowed: {reason}."
    hint = "Use a relative path such as results/table.csv: no leading '/', no '.' or '..' parts, at most 512 bytes."


class ChecksumMismatch(DevkitError):
    """The bytes are not the announced ones; nothing was stored."""

    code = "CHECKSUM_MISMATCH"
    status = 422
    template = "The uploaded bytes do not match the announced {what}."
    hint = "Send the bytes again; nothing was stored."


class DataNotFound(DevkitError):
    """There is no such local file or folder, or none that may be seen."""

    code = "DATA_NOT_FOUND"
    status = 404
    template = "There is no {path!r} among the local data."
    hint = "Hidden names, links that leave their root and the devkit's own files count as absent."


class DataUnreadable(DevkitError):
    """The devkit's own user may not read the local file or folder."""

    code = "DATA_UNREADABLE"
    status = 403
    template = "The devkit may not read {path!r}."
    hint = "Give the user the devkit runs as permission to read it."


class DataFolderTooLarge(DevkitError):
    """The local folder holds more names than are looked at."""

    code = "DATA_FOLDER_TOO_LARGE"
    status = 422
    template = "The folder {path!r} holds more than {limit} names."
    hint = "Sort its files into subfolders."


class BodyTooLarge(DevkitError):
    """The body is larger than the limit."""

    code = "BODY_TOO_LARGE"
    status = 413
    template = "The request body is larger than {limit} bytes."
    hint = "Settings: DEVKIT_MAX_BODY_BYTES (JSON), DEVKIT_MAX_SOURCE_BYTES (module), DEVKIT_MAX_OBJECT_BYTES (files)."


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


class InternalError(DevkitError):
    """Something broke inside the devkit."""

    code = "INTERNAL_ERROR"
    status = 500
    template = "Something went wrong inside the devkit."
    hint = "Look for the correlation id in the devkit's log."


class Unavailable(DevkitError):
    """A part of the devkit cannot answer now."""

    code = "UNAVAILABLE"
    status = 503
    template = "{what} is not available now."
    hint = "Try again shortly; GET /v1/system/ready says what is missing."


class StateWriteFailed(DevkitError):
    """A document could not be made durable, so nothing was acknowledged."""

    code = "STATE_WRITE_FAILED"
    status = 503
    template = "The change could not be stored, and was not made."
    hint = "Check the free space and the permissions of the state directory, then try again."
