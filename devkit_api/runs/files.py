"""What a run leaves besides its document: output and log, in one folder per run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.errors import OutputDamaged


class RunFiles:
    """`<root>/<two hex digits>/<run id>/` for each run. Run ids come from us or passed `RUN_ID`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, run_id: str) -> Path:
        """The run's folder; it may not exist yet."""
        return self._root / hashlib.blake2b(run_id.encode(), digest_size=1).hexdigest() / run_id

    def log(self, run_id: str) -> Path:
        """The run's log, one JSON event per line."""
        return self.folder(run_id) / "log.jsonl"

    @wrap
    def write_output(self, run_id: str, output: dict[str, Any]) -> None:
        """Store the output durably. Raises `OSError`."""
        data = jsonio.dumps(output)
        folder = self.folder(run_id)
        make_folder_durable(folder)
        write_atomic(folder / "output.json", data)
        fsync_folder(folder)

    @wrap
    def read_output(self, run_id: str) -> dict[str, Any] | None:
        """The stored output, or None."""
        try:
            data = (self.folder(run_id) / "output.json").read_bytes()
            output = jsonio.loads_trusted(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise OutputDamaged(run_id=run_id) from exc
        if not isinstance(output, dict):
            raise OutputDamaged(run_id=run_id)
        return output

    @wrap
    def has_output(self, run_id: str) -> bool:
        """Whether an output is stored."""
        return (self.folder(run_id) / "output.json").is_file()

    @wrap
    def remove(self, run_id: str) -> None:
        """Delete everything the run left."""
        shutil.rmtree(self.folder(run_id), ignore_errors=True)

    @wrap
    def sweep(self, known: set[str]) -> int:
        """Delete what belongs to no known run; how many folders went."""
        for leftover in self._root.glob("*/*/.*.tmp"):
            leftover.unlink(missing_ok=True)
        orphans = [path for path in self._root.glob("*/*") if path.name not in known]
        for path in orphans:
            shutil.rmtree(path, ignore_errors=True)
        return len(orphans)
