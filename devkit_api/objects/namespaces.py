"""Names of namespaces, and the `s3://` names that modules and users see."""

from __future__ import annotations

import re

import attrs

from devkit_api.ids import RUN_ID

# '~' is no part of a run id: no run can take the name of another namespace.
_INPUTS, _REPORTS = "~inputs", "~reports"
UPLOADS = "~uploads"
CATALOG_IMPORTS = "~catalog-imports"
VIEW_EXPORTS = "~view-exports"
NAMESPACE = re.compile(rf"(?:{RUN_ID.pattern})(?:{_INPUTS}|{_REPORTS})?|{UPLOADS}|{CATALOG_IMPORTS}|{VIEW_EXPORTS}")
_URI = re.compile(rf"s3://([^/?#]+)/(?:runs/({RUN_ID.pattern})/(files|inputs)|(uploads))/([^?#]+)")


def run_files(run_id: str) -> str:
    """What a run saved."""
    return run_id


def run_inputs(run_id: str) -> str:
    """What a run reads: copies that never change."""
    return run_id + _INPUTS


def run_reports(run_id: str) -> str:
    """Reports people attached to a run."""
    return run_id + _REPORTS


def run_of(namespace: str) -> str | None:
    """The run a namespace belongs to; None for those that belong to none."""
    return namespace.partition("~")[0] or None


def prefix_of(namespace: str) -> str:
    """Where a namespace lies in a bucket, ending with '/'."""
    run_id, _, kind = namespace.partition("~")
    if not run_id:
        return f"{kind}/"
    return f"runs/{run_id}/{kind or 'files'}/"


@attrs.frozen
class Location:
    """One object: the namespace and the name in it."""

    namespace: str
    name: str


def uri(bucket: str, namespace: str, name: str) -> str:
    """The `s3://` name of an object. It is the same whether the bucket is one of S3 or the devkit's own folder."""
    return f"s3://{bucket}/{prefix_of(namespace)}{name}"


def locate(bucket: str, text: str) -> Location | None:
    """What one of our `s3://` names names; None for any other text."""
    match = _URI.fullmatch(text)
    if match is None or match[1] != bucket:
        return None
    _, run_id, folder, _, name = match.groups()
    if run_id is None:
        return Location(UPLOADS, name)
    return Location(run_files(run_id) if folder == "files" else run_inputs(run_id), name)
