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
