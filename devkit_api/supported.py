"""What the settings ask for and this installation lacks: refused, not ignored."""

from __future__ import annotations

from importlib.util import find_spec

from devkit_api.settings import PREFIX, Problem, Settings, SettingsError


def refuse_unsupported(settings: Settings) -> None:
    """Raise `SettingsError` for what needs a package that is not installed."""
    problems = _missing_extras(settings)
    if problems:
        raise SettingsError(problems)


def _is_absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # of a package above it
        return True


def _missing_extras(settings: Settings) -> list[Problem]:
    problems = []
    if settings.s3_endpoint is not None and _is_absent("aiobotocore"):
        fix = "pip install 'hla-compass-devkit[s3]'"
        problems.append(Problem(f"{PREFIX}S3_ENDPOINT", "the S3 client is not installed", fix))
    if settings.executor == "dask" and _is_absent("distributed"):
        fix = "pip install 'hla-compass-devkit[dask]'"
        problems.append(Problem(f"{PREFIX}EXECUTOR", "Dask is not installed", fix))
    if settings.otlp_endpoint is not None and _is_absent("opentelemetry.exporter.otlp.proto.http"):
        fix = "pip install 'hla-compass-devkit[otel]'"
        problems.append(Problem(f"{PREFIX}OTLP_ENDPOINT", "the OpenTelemetry SDK is not installed", fix))
    return problems
