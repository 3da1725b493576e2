"""What the settings can say and this version cannot do: refused, not ignored."""

from __future__ import annotations

from importlib.util import find_spec

from devkit_api.settings import PREFIX, Problem, Settings, SettingsError


def refuse_unsupported(settings: Settings) -> None:
    """Raise `SettingsError` for what the settings say and this version, or this installation, cannot do."""
    asked = {"EXECUTOR": settings.executor != "local"}
    problems = _missing_extras(settings) + [
        Problem(PREFIX + name, "this version does not support that yet", f"unset {PREFIX}{name}")
        for name, is_asked in asked.items()
        if is_asked
    ]
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
    if settings.otlp_endpoint is not None and _is_absent("opentelemetry.exporter.otlp.proto.http"):
        fix = "pip install 'hla-compass-devkit[otel]'"
        problems.append(Problem(f"{PREFIX}OTLP_ENDPOINT", "the OpenTelemetry SDK is not installed", fix))
    return problems
