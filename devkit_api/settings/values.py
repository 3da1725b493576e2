"""Parsers for setting values. Each raises `ValueError` with the reason, in words a newcomer understands."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

T = TypeVar("T")

MIN_SECRET_LENGTH = 16
_KNOWN_BAD_SECRETS = frozenset(
    {"postgres", "minioadmin", "password", "admin", "secret", "changeme", "test", "devkit", "example", "root"}
)
_PERIODS = {"second": 1, "minute": 60, "hour": 3600}


@attrs.frozen
class RateLimit:
    """A token bucket: `count` requests per `period` seconds, and at most `burst` at once."""

    count: int
    period: int
    burst: int

    def __str__(self) -> str:
        unit = next(name for name, seconds in _PERIODS.items() if seconds == self.period)
        return f"{self.count}/{unit}:{self.burst}"


@attrs.frozen
class DataRoot:
    """A folder of this machine that pages of modules may browse."""

    id: str
    label: str
    path: Path


def _expects(expected: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    def mark(parse: Callable[[str], T]) -> Callable[[str], T]:
        parse.expected = expected  # type: ignore[attr-defined]
        return parse

    return mark


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser for integers in `low..high`."""

    @_expects(f"a whole number from {low} to {high}")
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not low <= int(value) <= high:
            raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
        return int(value)

    return parse


def positive_seconds(high: float) -> Callable[[str], float]:
    """A parser for seconds, more than 0 and at most `high`."""

    @_expects(f"seconds, more than 0 and at most {high:g}")
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not 0 < float(value) <= high:
            raise ValueError(f"{value!r} is not a number of seconds from 0 to {high:g}")
        return float(value)

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """A parser for one of `allowed`, whatever the case."""

    @_expects("one of " + ", ".join(allowed))
    def parse(value: str) -> str:
        for candidate in allowed:
            if value.strip().lower() == candidate.lower():
                return candidate
        raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")

    return parse


def text(max_length: int) -> Callable[[str], str]:
    """A parser for printable text without line breaks."""

    @_expects(f"text of at most {max_length} characters")
    def parse(value: str) -> str:
        if len(value) > max_length or not value.isprintable():
            raise ValueError(f"it must be printable and at most {max_length} characters")
        return value

    return parse


@_expects("a path")
def path(value: str) -> Path:
    """A path; `~` is the home directory."""
    return Path(value).expanduser()


@_expects("true or false")
def boolean(value: str) -> Any:
    """`true`/`1`/`yes`/`on` or `false`/`0`/`no`/`off`."""
    word = value.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


@_expects("a host name or address")
def host_name(value: str) -> str:
    """A host name, an IPv4 or an IPv6 address, without port."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value):
        raise ValueError(f"{value!r} is not a host name or address")
    return value


@_expects("letters, digits, '_' and '-'")
def identifier(value: str) -> str:
    """An id of letters, digits, `_`, `-` and `.`, at most 100 characters."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise ValueError(f"{value!r} is not an identifier")
    return value


@_expects("an http or https address")
def url(value: str) -> str:
    """An http(s) address without path, user or query; a trailing slash is dropped."""
    parts = urlsplit(value)
    bare = not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname or not bare:
        raise ValueError(f"{value!r} is not an address such as http://127.0.0.1:9000")
    return value.rstrip("/")


@_expects("an address such as tcp://10.0.0.5:8786 or tls://…")
def dask_address(value: str) -> str:
    """The address of a Dask scheduler as Dask writes it."""
    parts = urlsplit(value)
    try:
        is_whole = bool(parts.hostname and parts.port) and not (parts.username or parts.query or parts.path.strip("/"))
    except ValueError:  # the port is no number
        is_whole = False
    if parts.scheme not in {"tcp", "tls", "ws", "wss"} or not is_whole:
        raise ValueError(f"{value!r} is not an address such as tcp://10.0.0.5:8786")
    return value.rstrip("/")


@_expects("an https address; http on loopback alone")
def https_address(value: str) -> str:
    """An https address with a path; http is taken from this machine only, as keys must not be swapped on the way."""
    parts = urlsplit(value)
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ValueError("keys fetched over http could be anybody's")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        raise ValueError(f"{value!r} is not an address such as https://login.lab.example/jwks.json")
    return value


@_expects("addresses or networks, separated by commas")
def networks(value: str) -> tuple[str, ...]:
    """IP addresses and networks in CIDR form; everybody (`0.0.0.0/0`) is refused."""
    found = [part.strip() for part in value.split(",") if part.strip()]
    for part in found:
        if ip_network(part).prefixlen == 0:
            raise ValueError(f"{part!r} is everybody; name the proxies")
    return tuple(found)


@_expects("origins such as http://localhost:5173, separated by commas")
def origins(value: str) -> tuple[str, ...]:
    """Browser origins; `*` is refused because answers carry private data."""
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    for origin in found:
        if origin == "*":
            raise ValueError("'*' would let every web page read your data; name the origins")
        url(origin)
    return tuple(origin.rstrip("/") for origin in found)


def _is_well_known(value: str) -> bool:
    """Whether everybody knows or guesses this: also with digits or signs at its end."""
    lowered = value.strip().lower()
    bare = re.sub(r"[\W\d_]+$", "", lowered)
    placeholder = re.match(r"(change[-_ ]?(me|it|this)|<.*>|your[-_ ]|xxx|todo|placeholder|replace[-_ ]?me)", lowered)
    return placeholder is not None or not _KNOWN_BAD_SECRETS.isdisjoint({lowered, bare})


@_expects("an account name of your own")
def account(value: str) -> str:
    """An account name that is neither empty, a placeholder nor the one a service comes with."""
    if _is_well_known(value):
        raise ValueError("it is a placeholder or the account the service comes with, which may do everything")
    return str(identifier(value))


@_expects(f"a secret of at least {MIN_SECRET_LENGTH} characters")
def secret(value: str) -> str:
    """A secret that is not empty, short, a placeholder or a well-known default."""
    if not value.strip():
        raise ValueError("it is empty")
    if _is_well_known(value):
        raise ValueError("it is a placeholder or a well-known default")
    if len(value) < MIN_SECRET_LENGTH:
        raise ValueError(f"it is shorter than {MIN_SECRET_LENGTH} characters")
    if len(set(value)) < 5:
        raise ValueError("it repeats a few characters")
    if not value.isprintable() or any(c.isspace() for c in value):
        raise ValueError("it holds white space or control characters")
    return value


@_expects("<count>/<second|minute|hour>[:<burst>] or off")
def rate_limit(value: str) -> Any:
    """`600/minute`, `600/minute:50` or `off` (None)."""
    return None if value.strip().lower() == "off" else strict_rate_limit(value)


@_expects("<count>/<second|minute|hour>[:<burst>]")
def strict_rate_limit(value: str) -> Any:
    """`600/minute` or `600/minute:50`: a limit that is never off."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})/(second|minute|hour)(?::([1-9][0-9]{0,8}))?", value.strip())
    if not match:
        raise ValueError(f"{value!r} is not like 600/minute:50")
    count = int(match[1])
    return RateLimit(count, _PERIODS[match[2]], int(match[3] or count))


@_expects(f"folders, or label=folder, joined by '{os.pathsep}'")
def data_roots(value: str) -> tuple[DataRoot, ...]:
    """Folders with a label each: the one given, or the folder's name. Ids are made from the labels."""
    found: list[DataRoot] = []
    for part in filter(None, value.split(os.pathsep)):
        label, separator, folder = part.partition("=")
        if not separator or "/" in label:
            label, folder = "", part
        directory = Path(folder).expanduser()
        if not folder or "\0" in folder:
            raise ValueError(f"{part!r} names no folder")
        label = label.strip() or directory.absolute().name or "root"
        if not label.isprintable() or len(label) > 100:
            raise ValueError(f"the label {label!r} must be printable and at most 100 characters")
        found.append(DataRoot(_free_id(label, {root.id for root in found}), label, directory))
    return tuple(found)


def _free_id(label: str, taken: set[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "root"
    return next(name for name in (plain, *(f"{plain}-{n}" for n in range(2, 1000))) if name not in taken)
