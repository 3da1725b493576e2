"""Draft 7 validation that ends: patterns match in linear time, and a check has a budget of processor time.

A JSON Schema is a program of its author. A pattern such as `^(a|aa)+$` takes a backtracking engine years, and twenty
`allOf`s of two references each check a value a million times. Patterns are therefore matched by RE2, which has neither
look-around nor back-references; and between any two keywords the budget is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from time import thread_time
from typing import Any

import re2
from jsonschema import Draft7Validator, ValidationError, validators

from devkit_api import jsonio

MAX_PATTERN_LENGTH = 4096
_UNICODE_ESCAPE = re.compile(r"(\\\\)|\\u([0-9A-Fa-f]{4})")
# How ECMAScript, which has no `\z`, says "end of the text"; manifests of the SDK's own scaffolds do.
_END_OF_TEXT = ("(?![\\s\\S])", "(?![\\S\\s])", "(?![^])")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_deadline: ContextVar[float] = ContextVar("schema_deadline", default=float("inf"))

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class TooCostly(Exception):
    """The budget is spent and the check has not ended."""


def iter_errors(validator: Any, instance: Any, *, seconds: float) -> Iterator[ValidationError]:
    """The violations in `instance`. Raises `TooCostly` after `seconds` of this thread's processor time."""
    token = _deadline.set(thread_time() + seconds)
    try:
        yield from validator.iter_errors(instance)
    finally:
        _deadline.reset(token)


def pattern_problem(pattern: str) -> str | None:
    """Why `pattern` cannot be used, or None."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"is longer than {MAX_PATTERN_LENGTH} characters"
    try:
        _compiled(pattern)
    except re2.error:
        return "is not a pattern RE2 can match in linear time: it has no look-around, no back-references"
    return None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    # JSON Schema's patterns are ECMAScript's: `\\u0041`, which RE2 writes `\\x{0041}`.
    translated = _UNICODE_ESCAPE.sub(lambda m: m[1] or rf"\x{{{m[2]}}}", pattern)
    for idiom in _END_OF_TEXT:
        translated = translated.replace(idiom, r"\z")
    return re2.compile(translated, _OPTIONS)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        shown = instance if len(instance) <= 100 else instance[:99] + "…"
        yield ValidationError(f"{shown!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, below in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    extras = unknown_fields(instance, schema)
    if isinstance(wanted, dict):
        for name in extras:
            yield from validator.descend(instance[name], wanted, path=name)
    elif not wanted and extras:
        yield ValidationError("Additional properties are not allowed")


def unknown_fields(instance: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The fields that neither `properties` nor `patternProperties` of the schema name."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in instance if name not in known and not any(_matches(p, name) for p in patterns)]


def _unique_items(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """`uniqueItems` in one pass: the library compares every item with every other one, which takes minutes."""
    if wanted and isinstance(instance, list) and len({jsonio.canonical(item) for item in instance}) < len(instance):
        yield ValidationError("has an item twice")


def _within_budget(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        if thread_time() > _deadline.get():
            raise TooCostly
        return keyword(validator, value, instance, schema)

    return check


_KEYWORDS: dict[str, Keyword] = {
    **Draft7Validator.VALIDATORS,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
BoundedValidator = validators.extend(  # type: ignore[no-untyped-call]
    Draft7Validator, {name: _within_budget(keyword) for name, keyword in _KEYWORDS.items()}
)
