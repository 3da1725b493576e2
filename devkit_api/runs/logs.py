"""Run logs: bounded, readable while the run works, and still there after a restart.

Tokens are byte positions in the log file: the file only grows, so a token stays right forever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.errors import ParameterInvalid
from devkit_api.ids import utc_now
from devkit_api.runs.files import RunFiles
from devkit_api.runs.log_events import LineSplitter, clean, to_event

log = logging.getLogger(__name__)

_FLUSH_AFTER = 0.05
# By it the command line knows the steps of a build.
BUILD_LOGGER = "devkit.environment"
_TOKEN = re.compile(r"[fb]/([0-9]{1,15})")


@attrs.frozen
class LogPage:
    """Events and where to go on from; `note` says why there are none yet."""

    events: list[dict[str, Any]]
    next_token: str
    note: str | None = None


class RunLogWriter:
    """Takes the output of one run. `on_output` never blocks; events reach the file within a moment."""

    def __init__(self, path: Path, max_bytes: int, token: str, on_change: Callable[[], None]) -> None:
        self._path = path
        self._allowance = max_bytes
        self._on_change = on_change
        self._splitter = LineSplitter(token.encode())
        self._buffer: list[bytes] = []
        self._flusher: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._lock = asyncio.Lock()
        self.bytes_seen = 0
        self.bytes_dropped = 0

    def on_output(self, data: bytes) -> None:
        """Bytes from the process."""
        self.bytes_seen += len(data)
        if self._allowance <= 0:
            self.bytes_dropped += len(data)
            return
        try:
            self._add(self._splitter.feed(data))
        except Exception:
            # Whoever reads the pipe must go on: a process that nobody listens to stands still.
            self.bytes_dropped += len(data)
            log.exception("log lines could not be taken", extra={"run": self._path.parent.name})

    def on_build(self, line: bytes) -> None:
        """A line of whoever builds the module's environment; it counts for the log's limit like the module's own."""
        self.bytes_seen += len(line)
        if self._allowance <= 0:
            self.bytes_dropped += len(line)
            return
        self._take([_own_event(clean(line.decode("utf-8", "replace").rstrip()), "INFO", BUILD_LOGGER)])

    def note(self, message: str, level: str = "INFO") -> None:
        """A line of the devkit's own: kept even when the module has used up the log."""
        self._keep([_own_event(clean(message), level)])

    def end_output(self) -> None:
        """The process has ended: a line it left unfinished is a line now."""
        if self._allowance > 0:
            self._add(self._splitter.finish())

    async def close(self) -> None:
        """Write what is left."""
        self.end_output()
        self._closing.set()
        if self._flusher is not None:
            await self._flusher
        await self.flush()
        self._on_change()

    async def flush(self) -> None:
        """Bring every event so far into the file, so that a reader sees it."""
        async with self._lock:
            buffer, self._buffer = self._buffer, []
            if buffer:
                try:
                    await _append(self._path, b"".join(buffer))
                except OSError:
                    # A full disk costs log lines, never the run.
                    self.bytes_dropped += sum(map(len, buffer))
                    log.exception("log lines could not be stored", extra={"run": self._path.parent.name})

    def _add(self, lines: Iterable[bytes]) -> None:
        self._take(map(to_event, lines))

    def _take(self, said: Iterable[dict[str, Any]]) -> None:
        events = []
        for event in said:
            self._allowance -= len(jsonio.dumps(event)) + 1
            if self._allowance <= 0:
                message = "The log has reached its limit (DEVKIT_MAX_LOG_BYTES); further output is not kept."
                events.append(_own_event(message, "WARNING"))
                break
            events.append(event)
        self._keep(events)

    def _keep(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        self._buffer.extend(jsonio.dumps(event) + b"\n" for event in events)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), _FLUSH_AFTER)
        while self._buffer:  # lines may arrive while the ones before are being written
            await self.flush()
        self._on_change()


def _own_event(message: str, level: str, logger: str = "devkit") -> dict[str, Any]:
    return {"timestamp": utc_now(), "message": message, "level": level, "logger": logger}


class RunLogs:
    """The logs of all runs; open writers are known so that readers see their last line."""

    def __init__(self, files: RunFiles, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._writers: dict[str, RunLogWriter] = {}

    def open(self, run_id: str, token: str, on_change: Callable[[], None] = lambda: None) -> RunLogWriter:
        """A writer for a run that starts executing. `token` is masked wherever the module prints it."""
        writer = RunLogWriter(self._files.log(run_id), self._max_bytes, token, on_change)
        self._writers[run_id] = writer
        return writer

    async def close(self, run_id: str) -> None:
        """Finish a run's log."""
        writer = self._writers.get(run_id)
        if writer is not None:
            await writer.close()
            self._writers.pop(run_id, None)

    async def lines(self, run_id: str, position: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Events from a byte position on, each with the position behind it."""
        writer = self._writers.get(run_id)
        if writer is not None:
            await writer.flush()
        lines, _ = await _read_forward(self._files.log(run_id), position, limit)
        found = []
        for line in lines:
            position += len(line)
            found += [(position, event) for event in _events([line])]
        return found

    async def read(self, run_id: str, *, token: str | None, limit: int, newest_first: bool) -> LogPage:
        """A page of events. The forward token is never null, and an empty page means the end so far (C.6)."""
        position = _position(token, "b" if newest_first else "f")
        writer = self._writers.get(run_id)
        if writer is not None:
            await writer.flush()
        path = self._files.log(run_id)
        if newest_first:
            lines, after = await _read_backward(path, position, limit)
            return LogPage(_events(lines), f"b/{after}")
        lines, after = await _read_forward(path, position or 0, limit)
        return LogPage(_events(lines), f"f/{after}")


def _position(token: str | None, direction: str) -> int | None:
    if token is None:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None or token[0] != direction:
        expected = "a token from an earlier page in the same order"
        raise ParameterInvalid(name="nextToken", reason="it is not one of ours", details={"expected": expected})
    return int(match[1])


def _events(lines: list[bytes]) -> list[dict[str, Any]]:
    events = []
    for line in lines:
        try:
            event = jsonio.loads_trusted(line)
        except ValueError:
            continue  # a line cut by a crash
        if isinstance(event, dict) and isinstance(event.get("message"), str):
            events.append(event)
    return events


@wrap
def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


@wrap
def _read_forward(path: Path, position: int, limit: int) -> tuple[list[bytes], int]:
    lines: list[bytes] = []
    try:
        with path.open("rb") as file:
            if position > os.fstat(file.fileno()).st_size:
                return [], position
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                lines.append(line)
                position += len(line)
                if len(lines) >= limit:
                    break
    except (FileNotFoundError, IsADirectoryError):
        return [], position
    return lines, position


@wrap
def _read_backward(path: Path, position: int | None, limit: int) -> tuple[list[bytes], int]:
    try:
        with path.open("rb") as file:
            # A log is bounded by DEVKIT_MAX_LOG_BYTES, so reading it up to here is bounded as well.
            size = os.fstat(file.fileno()).st_size
            data = file.read(size if position is None else min(position, size))
    except (FileNotFoundError, IsADirectoryError):
        return [], position or 0
    # A line cut by a crash is no line: a page that held nothing else would look like the end.
    data = data[: data.rfind(b"\n") + 1]
    lines = data.splitlines(keepends=True)
    shown = lines[-limit:]
    return shown[::-1], len(data) - sum(map(len, shown))
