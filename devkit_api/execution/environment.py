"""What processes of modules find in their environment: nothing is inherited but PATH, locale and time zone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from devkit_api.execution.protocol import RunSpec

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")
# Where packages come from, and the way there, is the machine's affair: the installer sees it, modules do not.
_INSTALLER = ("HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_INSTALLER_PREFIXES = ("UV_", "PIP_", "XDG_")

# The same for nursery, zygote and run; a manifest cannot change them.
_COMMON = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Without it the SDK logs warnings about missing key rings into every run (wire-contract 1.6).
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    "NO_PROXY": "127.0.0.1,localhost",
    "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
    "HLA_COMPASS_LOG_FORMAT": "json",
}


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def build_environment() -> dict[str, str]:
    """For uv or pip while they build a module's environment."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _INSTALLER or name.startswith(_INSTALLER_PREFIXES)
    }
    return {**_inherited(), **own}


def nursery_environment() -> dict[str, str]:
    """For the process that imports the SDK. It has no home: nothing of it may depend on one."""
    return {**_inherited(), **_COMMON, "HOME": "/nonexistent"}


def zygote_environment(home: Path, declared: Mapping[str, str]) -> dict[str, str]:
    """For the import of a module. `declared` are its manifest's variables; nothing of any run is in it."""
    own = {"HOME": str(home), "TMPDIR": str(home), "MPLCONFIGDIR": str(home)}
    return {**_inherited(), **allowed(declared), **_COMMON, **own}


def run_environment(root: Path, spec: RunSpec) -> dict[str, str]:
    """The whole environment of a run (wire-contract E.1) in its work directory `root`."""
    home, temporary = root / "home", root / "tmp"
    own = {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "MPLCONFIGDIR": str(temporary),
        "HLA_COMPASS_CONFIG_DIR": str(home / ".hla-compass"),
        "HLA_COMPASS_WORKDIR": str(root / "scratch"),
        "HLA_COMPASS_PAYLOAD": str(root / "input.json"),
        "HLA_COMPASS_CONTEXT": str(root / "context.json"),
        "HLA_COMPASS_OUTPUT": str(root / "out" / "output.json"),
        "HLA_COMPASS_SUMMARY": str(root / "out" / "summary.json"),
        "HLA_COMPASS_MODULE": spec.entrypoint,
        "HLA_COMPASS_MODULE_ID": spec.module_id,
        "HLA_COMPASS_RUN_ID": spec.run_id,
        "HLA_COMPASS_RUN_MODE": spec.mode,
        "HLA_COMPASS_CORRELATION_ID": str(spec.context.get("correlation_id") or spec.run_id),
        "HLA_COMPASS_EXECUTE_TIMEOUT_SECONDS": f"{spec.limits.runtime_seconds:g}",
        # Local runs poll and report as often as they like; the server has its own limits.
        "HLA_RATE_LIMIT_MAX_REQUESTS": "10000",
    }
    if spec.traceparent is not None:  # OpenTelemetry: environment variables as context propagation carriers
        own["TRACEPARENT"] = spec.traceparent
    return {**_inherited(), **allowed(spec.environment), **_COMMON, **own}


def allowed(declared: Mapping[str, str]) -> dict[str, str]:
    """A manifest's variables without the devkit's own."""
    return {name: value for name, value in declared.items() if not name.upper().startswith("DEVKIT_")}


def needs_fresh_interpreter(declared: Mapping[str, str]) -> str | None:
    """The first variable that only counts when an interpreter starts, or None."""
    early = ("PYTHON", "LD_", "HLA_", "MALLOC_", "GLIBC_")
    return next((name for name in sorted(declared) if name.upper().startswith(early)), None)
