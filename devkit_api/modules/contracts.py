"""A module's input contract: a Draft 7 JSON Schema, checked once and then applied to each run's parameters.

Source: `hla_compass.manifest.validate_contract_schema`. The SDK's older dialect, a plain map of field -> schema, is
read as the `properties` of an object, as the SDK does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft7Validator, FormatChecker, SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import PointerToNowhere, Unresolvable
from referencing.jsonschema import DRAFT7

from devkit_api.modules.bounded_schema import (
    BoundedValidator,
    TooCostly,
    iter_errors,
    pattern_problem,
    unknown_fields,
)

MAX_FINDINGS = 20
MAX_SCHEMA_VALUES = 20_000
# Processor seconds: what the event loop may give to one check, and what a thread may.
INLINE_SECONDS = 0.02
THREAD_SECONDS = 2.0
_KEYWORDS = frozenset(Draft7Validator.META_SCHEMA["properties"])
# An empty registry: a `$ref` never makes the server read a file or an address.
_NO_REMOTE: Registry[Any] = Registry()


def normalise(contract: dict[str, Any]) -> dict[str, Any]:
    """The contract as an object schema."""
    is_field_map = bool(contract) and all(isinstance(v, dict | bool) for v in contract.values())
    if is_field_map and _KEYWORDS.isdisjoint(contract):
        return {"type": "object", "properties": contract}
    return contract


def contract_problem(contract: dict[str, Any] | None) -> str | None:
    """Why `contract` cannot be used, or None."""
    if not contract:
        return None
    schema = normalise(contract)
    if _has_more_values(schema, MAX_SCHEMA_VALUES):
        return f"holds more than {MAX_SCHEMA_VALUES} values"
    try:
        Draft7Validator.check_schema(schema)
    except SchemaError as exc:
        return f"is not a valid Draft 7 JSON Schema at {_pointer(exc.path) or '/'}"
    if any(not ref.startswith("#") for ref in _references(schema)):
        return "holds a $ref that leaves the document"
    dangling = _dangling(schema)
    if dangling is not None:
        return f"holds a $ref to nowhere ({_short(dangling, 100)})"
    try:
        loops = _loops(schema)
    except RecursionError:
        return "holds too long a chain of $refs"
    if loops:
        return "holds a $ref that leads back to itself"
    if schema.get("type", "object") != "object":
        return "must describe an object"
    for pattern in _patterns(schema):
        problem = pattern_problem(pattern)
        if problem is not None:
            return f"holds a pattern ({_short(pattern, 100)}) that {problem}"
    return None


def _has_more_values(node: Any, limit: int) -> bool:
    nodes, seen = [node], 0
    while nodes and seen <= limit:
        seen += 1
        below = nodes.pop()
        nodes.extend(below.values() if isinstance(below, dict) else below if isinstance(below, list) else ())
    return seen > limit


def _patterns(node: Any) -> Iterator[str]:
    """Every pattern of the schema. What only looks like one, in an `enum` say, is held to the same rule."""
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            yield node["pattern"]
        if isinstance(node.get("patternProperties"), dict):
            yield from node["patternProperties"]
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in below:
        yield from _patterns(value)


def _dangling(schema: dict[str, Any]) -> str | None:
    """The first $ref that nothing answers to."""
    resolver = _NO_REMOTE.resolver_with_root(DRAFT7.create_resource(schema))
    for ref in _references(schema):
        try:
            if not isinstance(resolver.lookup(ref).contents, dict | bool):
                return ref
        except (Unresolvable, PointerToNowhere, ValueError, KeyError, TypeError, IndexError):
            return ref
    return None


def _loops(schema: dict[str, Any]) -> bool:
    """Whether some value would be checked for ever: a chain of $refs with no step into the value between them."""
    resolver = _NO_REMOTE.resolver_with_root(DRAFT7.create_resource(schema))
    open_refs: set[str] = set()
    done: set[str] = set()

    def reaches_itself(ref: str) -> bool:
        if ref in open_refs or ref in done:
            return ref in open_refs
        open_refs.add(ref)
        found = any(reaches_itself(below) for below in _same_value_references(resolver.lookup(ref).contents))
        open_refs.remove(ref)
        done.add(ref)
        return found

    return any(reaches_itself(ref) for ref in ["#", *_references(schema)])


def _same_value_references(node: Any) -> Iterator[str]:
    """The $refs that are applied to the very value `node` is applied to."""
    if not isinstance(node, dict):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"]
        return
    below = [node.get(name) for name in ("not", "if", "then", "else")]
    for name in ("allOf", "anyOf", "oneOf"):
        below += node.get(name) or []
    below += (node.get("dependencies") or {}).values()
    for schema in below:
        yield from _same_value_references(schema)


async def check_parameters(contract: dict[str, Any] | None, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """`find_violations`, in a thread when it takes longer than a blink, so that nobody else waits for it."""
    try:
        return find_violations(contract, parameters, seconds=INLINE_SECONDS)
    except TooCostly:
        pass
    try:
        return await asyncio.to_thread(find_violations, contract, parameters, seconds=THREAD_SECONDS)
    except TooCostly:
        message = "takes too long to check against the module's inputs"
        return [{"path": "", "message": message, "expected": "a smaller input, or a simpler schema"}]


def find_violations(
    contract: dict[str, Any] | None, parameters: dict[str, Any], *, seconds: float = THREAD_SECONDS
) -> list[dict[str, Any]]:
    """What in `parameters` breaks the contract: `{path, message, expected}`, path a JSON pointer, at most 20.

    Raises `TooCostly` when `seconds` of processor time do not suffice.
    """
    if not contract:
        return []
    validator = BoundedValidator(normalise(contract), registry=_NO_REMOTE, format_checker=_FORMATS)
    found = []
    try:
        for error in iter_errors(validator, parameters, seconds=seconds):
            found.append(_finding(error))
            if len(found) >= MAX_FINDINGS:
                break
    except RecursionError:
        found = [{"path": "", "message": "is nested too deeply for this schema", "expected": "less nesting"}]
    return sorted(found, key=lambda finding: finding["path"])


_FORMATS = FormatChecker(formats=("uuid", "date", "email"))


def _finding(error: ValidationError) -> dict[str, Any]:
    path = list(error.path)
    if error.validator == "required" and isinstance(error.instance, dict):
        required: Any = error.validator_value
        missing = [name for name in required if name not in error.instance]
        path += missing[:1]
        message = "is missing"
    elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
        message = "has a field the module does not know: " + _unknown_fields(error)
    else:
        message = _short(error.message)
    return {"path": _pointer(path), "message": message, "expected": _expected(error)}


def _unknown_fields(error: ValidationError) -> str:
    schema: Any = error.schema
    instance: Any = error.instance
    return _short(", ".join(sorted(unknown_fields(instance, schema))), 200)


def _expected(error: ValidationError) -> str:
    if error.validator == "additionalProperties" and isinstance(error.schema, dict):
        return "one of " + ", ".join(sorted(error.schema.get("properties", {}))[:30])
    if error.validator == "required" and isinstance(error.validator_value, list):
        return "all of " + ", ".join(sorted(map(str, error.validator_value))[:30])
    return _short(f"{error.validator}: {error.validator_value}")


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _pointer(path: Any) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"$ref", "$id", "$schema"} and isinstance(value, str):
                if key == "$ref":
                    yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)
