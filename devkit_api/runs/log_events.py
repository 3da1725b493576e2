"""From the bytes of a module's process to log events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from devkit_api.ids import utc_now
from devkit_api.logs import mask_secrets

MAX_LINE = 16 * 1024
# Terminal control sequences could rewrite what a reader of the log sees.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class LineSplitter:
    """Cuts a byte stream into lines of at most `MAX_LINE` bytes, with `secret` replaced by `***`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Complete lines so far."""
        # Before anything is cut: half a secret would not be found any more.
        masked = (self._rest + data).replace(self._secret, b"***")
        *lines, rest = masked.split(b"\n")
        for line in lines:
            yield from _pieces(line)
        # The last bytes may be the start of a secret whose end is still to come.
        while len(rest) >= MAX_LINE + len(self._secret):
            piece, rest = _cut(rest)
            yield piece
        self._rest = rest

    def finish(self) -> Iterator[bytes]:
        """What is left when the stream ends."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from _pieces(rest)


def _pieces(line: bytes) -> Iterator[bytes]:
    while len(line) > MAX_LINE:
        piece, line = _cut(line)
        yield piece
    yield line


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """The first `MAX_LINE` bytes, less what belongs to a UTF-8 character that goes on after them; and the rest."""
    end = MAX_LINE
    while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end], line[end:]


def to_event(line: bytes) -> dict[str, Any]:
    """One event `{timestamp, message, level?, logger?}`.

    The SDK's logger writes JSON lines (wire-contract E.6); everything else is taken as text. `message` is always a
    text: anything else crashes the official CLI.
    """
    # A progress bar redraws its line with carriage returns: what a terminal would show in the end is kept.
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    record = _sdk_record(text)
    if record is None:
        return {"timestamp": utc_now(), "message": clean(text)}
    message = str(record["message"])
    if record.get("exception"):
        message += "\n" + str(record["exception"])
    event = {"timestamp": utc_now(), "message": clean(message)}
    level = record.get("level")
    if isinstance(level, str) and level in _LEVELS:
        event["level"] = level
    if isinstance(record.get("logger"), str):
        event["logger"] = clean(record["logger"])[:200]
    return event


def clean(text: str) -> str:
    """Text without control characters (tabs and line breaks stay), halves of surrogate pairs and credentials."""
    text = text.encode("utf-8", "replace").decode()
    return mask_secrets(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def _sdk_record(text: str) -> dict[str, Any] | None:
    if not text.startswith('{"timestamp"'):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("message"), str) else None
