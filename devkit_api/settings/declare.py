"""How a setting is declared: a field that carries its variable, check, help and example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from devkit_api.settings.values import secret

PREFIX = "DEVKIT_"
_FIELD = "devkit_setting"


@attrs.frozen
class SettingInfo:
    """What is known of one setting besides its value."""

    env: str
    help: str
    parse: Callable[[str], Any]
    expected: str
    example: str
    is_secret: bool = False


def setting(env: str, default: Any, parse: Callable[[str], Any], about: str, *, example: str) -> Any:
    """A field of `Settings` that `DEVKIT_<env>` sets, once `parse` has accepted the text."""
    info = SettingInfo(
        env=PREFIX + env,
        help=about,
        parse=parse,
        expected=getattr(parse, "expected", "text"),
        example=example,
        is_secret=parse is secret,
    )
    return attrs.field(default=default, metadata={_FIELD: info})


def declared(settings: type[attrs.AttrsInstance]) -> dict[str, SettingInfo]:
    """Field name -> what is known of the setting, in declaration order."""
    return {f.name: f.metadata[_FIELD] for f in attrs.fields(settings) if _FIELD in f.metadata}
