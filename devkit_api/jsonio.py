"""JSON in and out: strict about what comes in, fast about what goes out.

Incoming documents are refused when they hold duplicate keys, NaN or infinities, NUL characters, lone surrogates, or
are nested or sized beyond bounds: such a document would mean different things to different readers, or could not be
stored in PostgreSQL later.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

MAX_DEPTH = 64
MAX_NODES = 1_000_000
MAX_KEY_LENGTH = 1024
# Objects and arrays cost far more than the bytes they take: eight megabytes of `[],` would be seconds of work.
MAX_CONTAINERS = 200_000
# Possessive, and open to the end: linear for any bytes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class JsonRefused(ValueError):
    """The text is not JSON the devkit accepts; the message says why, without quoting the text."""


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON. NaN and infinities become null, as browsers need."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes, so it can be hashed."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def loads_trusted(data: bytes) -> Any:
    """Parse what the devkit itself wrote."""
    return orjson.loads(data)


def loads_strict(data: bytes) -> Any:
    """Parse a document from outside. Raises `JsonRefused`."""
    _check_counts(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonRefused("it is not UTF-8") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except JsonRefused:
        raise
    except RecursionError:
        raise JsonRefused(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as exc:
        raise JsonRefused(f"it is not JSON (line {exc.lineno}, column {exc.colno})") from None
    check_structure(value)
    return value


def loads_lenient(data: bytes) -> Any:
    """Parse what a module wrote: Python JSON, where NaN and infinities are allowed and become null."""
    try:
        value = json.loads(data, parse_constant=lambda _: None, parse_int=_integer)
    except JsonRefused:
        raise
    except RecursionError:
        raise JsonRefused("it is nested too deeply") from None
    except (ValueError, UnicodeDecodeError):
        raise JsonRefused("it is not JSON") from None
    # Its size in bytes is bounded by the caller, and a result table may well have millions of cells.
    check_structure(value, allow_nul=True, max_nodes=None)
    return value


def check_structure(value: Any, *, allow_nul: bool = False, max_nodes: int | None = MAX_NODES) -> None:
    """Refuse nesting beyond `MAX_DEPTH`, more than `max_nodes` values, NUL and lone surrogates in text."""
    nodes = 0
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_text(key, allow_nul)
                    if len(key) > MAX_KEY_LENGTH:
                        raise JsonRefused(f"a key is longer than {MAX_KEY_LENGTH} characters")
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                _check_text(item, allow_nul)
        nodes += len(below)
        if max_nodes is not None and nodes > max_nodes:
            raise JsonRefused(f"it holds more than {max_nodes} values")
        if not below:
            return
        level = below
    raise JsonRefused(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_counts(data: bytes) -> None:
    """Refuse by counting brackets and commas, before anything is built; those within texts do not count."""
    if _fits(data):
        return
    bare = _STRING.sub(b"", data)
    if not _fits(bare):
        raise JsonRefused(f"it holds more than {MAX_NODES} values, or more than {MAX_CONTAINERS} objects and arrays")


def _fits(data: bytes) -> bool:
    return data.count(b",") <= MAX_NODES and data.count(b"[") + data.count(b"{") <= MAX_CONTAINERS


def _check_text(text: str, allow_nul: bool) -> None:
    if text.isascii():
        if "\0" in text and not allow_nul:
            raise JsonRefused("a text holds a NUL character")
        return
    if "\0" in text and not allow_nul:
        raise JsonRefused("a text holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonRefused("a text holds half of a surrogate pair") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonRefused("an object names a key twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise JsonRefused(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonRefused("a number is too large")
    return value


def _integer(text: str) -> int:
    # 64 bits: what orjson, PostgreSQL and JavaScript's BigInt columns can hold.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise JsonRefused("an integer does not fit in 64 bits")
    return int(text)
