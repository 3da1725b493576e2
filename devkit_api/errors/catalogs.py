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
