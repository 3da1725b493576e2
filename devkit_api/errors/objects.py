"""Stored objects and local data."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


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


class ObjectReplaced(DevkitError):
    """The address is for a version of the file that is no longer kept."""

    code = "OBJECT_REPLACED"
    status = 404
    template = "The file {key!r} was replaced after this address was made."
    hint = "Ask for a fresh address; it is for the version that is kept now."


class PartsInvalid(DevkitError):
    """A file cannot be made of these parts."""

    code = "PARTS_INVALID"
    status = 422
    template = "The file cannot be made of these parts: {reason}."
    hint = "Name every part once, in order, with the etag it was answered with; all but the last have 5 MiB or more."


class PartsNotFound(DevkitError):
    """Nothing was begun under this id, or it has ended."""

    code = "PARTS_NOT_FOUND"
    status = 404
    template = "There is no file in parts {begun!r}; it was completed, given up, or never begun."
    hint = "Begin again."


class UploadNotFound(DevkitError):
    """There is no such upload of this source."""

    code = "UPLOAD_NOT_FOUND"
    status = 404
    template = "There is no upload {upload_id!r} here."
    hint = "`hla-compass data uploads upload SOURCE FILE --idempotency-key KEY` begins one."


class UploadInvalid(DevkitError):
    """An upload in parts cannot go on like this."""

    code = "UPLOAD_INVALID"
    status = 422
    template = "The upload cannot be done: {reason}."
    hint = "GET the upload: it tells its status, its revision and the parts that are stored."


class UploadConflict(DevkitError):
    """The upload changed since the caller looked, or is not in a state that allows this."""

    code = "UPLOAD_CONFLICT"
    status = 409
    template = "The upload is {status!r} at revision {revision}; {reason}."
    hint = "GET the upload, and use its `revision`."


class RunQuotaExceeded(DevkitError):
    """A run may not save that much."""

    code = "RUN_QUOTA_EXCEEDED"
    status = 413
    template = "The run may save at most {limit}, and this file would exceed it."
    hint = "Delete files the run no longer needs, or raise {setting}."


class DataContextInvalid(DevkitError):
    """A named source of a run cannot be frozen."""

    code = "DATA_CONTEXT_INVALID"
    status = 422
    template = "The data context cannot be used: {summary}."
    hint = "Upload local files first (`python -m devkit_api inputs add FILE`) and name them by their s3:// address."
    example = '{"sources": [{"name": "cohort", "uri": "s3://hla-compass-devkit/uploads/…/cohort.csv"}]}'


class ArtifactNotFound(DevkitError):
    """The run has no such artifact, or no longer in that version."""

    code = "ARTIFACT_NOT_FOUND"
    status = 404
    template = "There is no artifact {artifact_id!r} {what}."
    hint = "`hla-compass runs artifacts RUN` lists the artifacts of a run, with their ids and versions."


class ReportNotFound(DevkitError):
    """The run has no such report."""

    code = "REPORT_NOT_FOUND"
    status = 404
    template = "There is no report {report_id!r} of this run."
    hint = "`hla-compass runs reports list RUN` lists the reports of a run."


class ReportInvalid(DevkitError):
    """The files of a report are not what a report is made of."""

    code = "REPORT_INVALID"
    status = 422
    template = "The report cannot be attached: {reason}."
    hint = "A report is a PDF of at most 20 MiB and a snapshot, a JSON object of at most 5 MiB, both uploaded before."


class ReportConflict(DevkitError):
    """The idempotency key was used for a report of other files."""

    code = "REPORT_CONFLICT"
    status = 409
    template = "A report of other files was attached with this idempotency key."
    hint = "Use a new key for a new report."


class ObjectStoreUnavailable(DevkitError):
    """The object store elsewhere does not answer, or refuses."""

    code = "OBJECT_STORE_UNAVAILABLE"
    status = 503
    template = "The object store cannot be used now: {reason}."
    hint = "Check DEVKIT_S3_ENDPOINT and its credentials; GET /v1/system/ready says when it answers again."


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


class DataBusy(DevkitError):
    """Too many local folders are being listed at the same time."""

    code = "DATA_BUSY"
    status = 503
    template = "Too many folders of the local data are being listed at the same time."
    hint = "Ask again in a moment; a slow disk or very large folders make listings wait for each other."
