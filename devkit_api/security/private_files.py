"""Small private JSON files that the command line writes and a running server reads: keys and users."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from time import monotonic
from typing import Any

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.settings import Problem, SettingsError

log = logging.getLogger(__name__)

_RECHECK_SECONDS = 1.0


class PrivateFile:
    """A JSON object in a file of mode 600, re-read when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] = {}
        self._stamp: tuple[int, int] | None = None
        self._checked_at = float("-inf")

    def forget_age(self) -> None:
        """Let the next `read` look at the file again."""
        self._checked_at = float("-inf")

    def read(self) -> dict[str, Any]:
        """The content, at most a second old; empty when there is no file, or none that may be trusted."""
        if monotonic() - self._checked_at >= _RECHECK_SECONDS:
            try:
                self.check()
            except SettingsError as exc:
                log.error("a private file is not used: %s", exc)
                self._content, self._stamp = {}, None
        return self._content

    def check(self) -> None:
        """Read the file now. Raises `SettingsError` when others can read it, or when it is broken."""
        self._checked_at = monotonic()
        self._refresh()

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content, durably."""
        make_folder_durable(self.path.parent)
        write_atomic(self.path, jsonio.dumps(content))
        fsync_folder(self.path.parent)
        self.forget_age()

    def _refresh(self) -> None:
        try:
            info = self.path.stat()
        except FileNotFoundError:
            self._content, self._stamp = {}, None
            return
        stamp = (info.st_mtime_ns, info.st_ino)
        if stamp == self._stamp:
            return
        if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            reason = "other users of this machine can read it"
            raise SettingsError([Problem(str(self.path), reason, f"chmod 600 {self.path}")])
        try:
            content = jsonio.loads_strict(self.path.read_bytes())
        except jsonio.JsonRefused as exc:
            raise SettingsError([Problem(str(self.path), str(exc), f"rm {self.path}")]) from None
        self._content, self._stamp = (content if isinstance(content, dict) else {}), stamp
