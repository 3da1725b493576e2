"""Catalogs, typed reads and SQL."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


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


class CatalogExists(DevkitError):
    """The keys of a new catalog are taken."""

    code = "CATALOG_EXISTS"
    status = 409
    template = "There is a catalog {catalog!r} already."
    hint = "Choose another catalogKey, or work with the catalog that is there."


class CatalogReadOnly(DevkitError):
    """The catalog takes no changes of this kind."""

    code = "CATALOG_READ_ONLY"
    status = 409
    template = "Catalog {catalog!r} cannot be changed so: {reason}."
    hint = "Create a catalog of your own: `hla-compass data catalog create`, or `python -m devkit_api catalog import`."


class VersionExists(DevkitError):
    """A catalog's versions have different labels, and this one is taken."""

    code = "VERSION_EXISTS"
    status = 409
    template = "Catalog {catalog!r} has a version {version!r} already."
    hint = "Versions never change: choose another label."


class CatalogUploadNotFound(DevkitError):
    """No such upload of the catalog."""

    code = "CATALOG_UPLOAD_NOT_FOUND"
    status = 404
    template = "The catalog has no upload {upload_id!r}."
    hint = "POST /v1/catalogs/{{id}}/uploads begins one."


class CatalogUploadInvalid(DevkitError):
    """The parts of an upload are not what was planned or stored."""

    code = "CATALOG_UPLOAD_INVALID"
    status = 422
    template = "The upload cannot go on: {reason}."
    hint = "`partSigning` of the upload says the parts; send each with its x-amz-checksum-sha256."


class IngestionNotFound(DevkitError):
    """No such ingestion job of the catalog."""

    code = "CATALOG_INGESTION_NOT_FOUND"
    status = 404
    template = "The catalog has no ingestion {job_id!r}."
    hint = "POST /v1/data-catalogs/{{id}}/ingest begins one and answers its id."


class IngestionInvalid(DevkitError):
    """What is to be ingested does not fit the catalog."""

    code = "CATALOG_INGESTION_INVALID"
    status = 422
    template = "The ingestion cannot begin: {reason}."
    hint = "`ingestionTables` of the catalog names its tables; replace needs all of them, append any."


class StateConflict(DevkitError):
    """Something changed since the caller looked, or is not in a state that allows this."""

    code = "STATE_CONFLICT"
    status = 409
    template = "It is {status!r} at stateVersion {state_version}; {reason}."
    hint = "Read it again and use its `stateVersion`."


class IdempotencyKeyReused(DevkitError):
    """The key was used for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 409
    template = "The idempotency key was used before, for another request."
    hint = "Send the same request again with the same key, or another request with a new key."


class ImportTooLarge(DevkitError):
    """A file holds more than one import takes, packed or not: a few packed kilobytes can be terabytes of rows."""

    code = "CATALOG_IMPORT_TOO_LARGE"
    status = 422
    template = "{file} holds more than {limit} {unit}."
    hint = "Split it, and append: each file becomes a version that continues the one before."


class ImportUnreadable(DevkitError):
    """A file cannot be read as rows of its table."""

    code = "CATALOG_IMPORT_UNREADABLE"
    status = 422
    template = "{file} cannot be imported: {reason}."
    hint = "docs/catalogs.md lists the formats, the tables and their fields."


class ImportInvalid(DevkitError):
    """Rows of the files are not right; nothing was imported."""

    code = "CATALOG_IMPORT_INVALID"
    status = 422
    template = "Nothing was imported: {count} problem(s), the first in {first}."
    hint = "`details.problems` shows up to 100 of them, with row numbers (row 1 is the first below the header)."


class IngestionInterrupted(DevkitError):
    """An ingestion ended for a reason that is not in its files; nothing was written."""

    code = "CATALOG_INGESTION_INTERRUPTED"
    status = 503
    template = "The ingestion was interrupted; nothing was written."
    hint = "Retry it: `hla-compass data ingestion retry`."
