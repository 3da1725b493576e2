"""Logging: JSON lines for machines, short lines for people, and the correlation id on both.

User text cannot forge a line or a field: JSON encoding escapes control characters, and the console format replaces
them. Values that look like credentials are masked in every record.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from pythonjsonlogger.orjson import OrjsonFormatter
from rich.console import Console
from rich.logging import RichHandler

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="-")

AUDIT_BYTES = 10 * 1024 * 1024
AUDIT_FILES = 10

_SECRETS = re.compile(
    r"(hla_(?:runtoken|devkit)_)[A-Za-z0-9._~-]+"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|((?:X-Amz-)?(?:Signature|Security-Token)=)[^&\s\"']+"
    r"|((?:X-API-Key|Authorization)[\"']?\s*[:=]\s*(?:Bearer\s+)?)[^\s,;\"']+",
    re.IGNORECASE,
)
_SECRET_NAMES = frozenset({"password", "secret", "token", "api_key", "authorization", "access_token", "refresh_token"})
_OURS = frozenset({"level", "logger", "timestamp"})
_hidden: dict[str, None] = {}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_UNSEEN = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "correlation_id", "taskName"}


def mask_secrets(text: str) -> str:
    """`text` with keys, tokens, URL signatures and credential headers replaced by `***`."""
    for value in _hidden:
        if value in text:
            text = text.replace(value, "***")
    return _SECRETS.sub(lambda match: next((g for g in match.groups() if g is not None), "") + "***", text)


def hide_values(*values: str | None) -> None:
    """Mask these secrets wherever a log line holds them."""
    _hidden.update(dict.fromkeys(value for value in values if value))


class _Context(logging.Filter):
    """Puts the correlation id on each record and masks credentials in its text and fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.correlation_id = correlation_id.get()
        record.msg, record.args = mask_secrets(record.getMessage()), None
        fields = record.__dict__
        for name in fields.keys() - _STANDARD:
            value = fields[name]
            if name in _OURS:  # a field of the line itself cannot be overwritten
                fields[f"{name}_"] = fields.pop(name)
            elif name in _SECRET_NAMES:
                fields[name] = "***"
            elif isinstance(value, str):
                fields[name] = mask_secrets(value)
        return True


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extras = {k: v for k, v in record.__dict__.items() if k not in _STANDARD and not k.startswith("_")}
        fields = " ".join(f"{name}={value}" for name, value in extras.items())
        line = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", f"{record.getMessage()}  {fields}".rstrip())
        if record.exc_info:
            line += "\n" + mask_secrets(self.formatException(record.exc_info))
        return line


class _PlainFormatter(_ConsoleFormatter):
    """The console form without colours and folding, for files and pipes."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname:<7} {super().format(record)}"


class _Times:
    """Times in UTC, in ISO 8601 with milliseconds. The text of a second is made once."""

    _second = -1
    _text = ""

    def of(self, seconds: float) -> str:
        second = int(seconds)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((seconds - second) * 1000):03d}Z"


class _JsonLines(OrjsonFormatter):
    """One JSON object per line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._times = _Times()

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return self._times.of(record.created)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        # JSON lets these stand as they are; some readers take them for the end of a line, or turn it round.
        return line if line.isascii() else _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line)

    def formatException(self, ei: Any) -> str:
        return mask_secrets(str(super().formatException(ei)))


def _json_lines() -> logging.Formatter:
    return _JsonLines(
        "{asctime}{levelname}{name}{message}{correlation_id}",
        style="{",
        rename_fields={"asctime": "timestamp", "levelname": "level", "name": "logger"},
    )


class JsonAccessLines:
    """Writes the lines of the access log without records: there is one for every request, and the logging package takes
    several times as long for it. Their form is that of every other line.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._times = _Times()

    def write(self, message: str, fields: dict[str, Any]) -> None:
        """One line. Neither `message` nor `fields` may hold text of the caller's: nothing is masked."""
        line = {
            "timestamp": self._times.of(time.time()),
            "level": "INFO",
            "logger": "devkit_api.access",
            "message": message,
            "correlation_id": correlation_id.get(),
            **fields,
        }
        with suppress(OSError):  # a log that cannot be written stops no request, as with every other line
            self._stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            self._stream.flush()


# Set while lines are JSON; the access log is a logger like any other without it.
access_lines: JsonAccessLines | None = None


class _PrivateRotating(RotatingFileHandler):
    def _open(self) -> Any:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


@contextmanager
def audit_file(path: Path | None) -> Iterator[None]:
    """Send `devkit.audit` to `path`, whatever the level of the log; None leaves it in the log."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _PrivateRotating(path, maxBytes=AUDIT_BYTES, backupCount=AUDIT_FILES - 1)
    handler.setFormatter(_json_lines())
    handler.addFilter(_Context())
    audit = logging.getLogger("devkit.audit")
    audit.addHandler(handler)
    audit.setLevel(logging.INFO)
    audit.propagate = False
    try:
        yield
    finally:
        audit.removeHandler(handler)
        audit.setLevel(logging.NOTSET)
        audit.propagate = True
        handler.close()


def configure_logging(level: str, fmt: str) -> None:
    """Set up the root logger once; `fmt` is `json` or `console`. Lines go to stderr, answers of commands to stdout."""
    global access_lines  # noqa: PLW0603  a log is the process's, as the root logger is
    stream = getattr(sys.stderr, "buffer", None)
    access_lines = JsonAccessLines(stream) if fmt == "json" and stream is not None else None
    handler: logging.Handler
    if fmt == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_json_lines())
    elif sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False, rich_tracebacks=False)
        handler.setFormatter(_ConsoleFormatter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_PlainFormatter())
    handler.addFilter(_Context())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
