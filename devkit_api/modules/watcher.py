"""The watched directory: each subfolder with a manifest.json is a module, and stays registered as it is edited.

A save that breaks a module keeps its last good registration, and says what is wrong in the log and in `sourceStatus`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from watchfiles import DefaultFilter, awatch

from devkit_api.errors import DevkitError
from devkit_api.modules.bundles import MANIFEST
from devkit_api.modules.models import Origin
from devkit_api.modules.service import ModuleRegistry
from devkit_api.state import StateError

log = logging.getLogger(__name__)


class ModulesWatcher:
    """Registers what is in a directory, then follows its changes until stopped."""

    def __init__(self, registry: ModuleRegistry, directory: Path) -> None:
        self._registry = registry
        self._directory = directory.resolve()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register every module folder once, then watch in the background."""
        await self.scan()
        self._task = asyncio.create_task(self._follow(), name="modules-watcher")

    async def scan(self) -> None:
        """Register every module folder as it is now."""
        for folder in sorted(path.parent for path in self._directory.glob(f"*/{MANIFEST}")):
            await self._register(folder)

    async def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _follow(self) -> None:
        try:
            await self._follow_changes()
        except (OSError, RuntimeError):
            log.exception("the modules directory is no longer watched; restart to watch it again")

    async def _follow_changes(self) -> None:
        # DefaultFilter leaves out caches and the temporary files of editors.
        changes = awatch(
            self._directory,
            watch_filter=DefaultFilter(),
            stop_event=self._stop,
            debounce=300,
            rust_timeout=500,
            yield_on_timeout=True,
        )
        is_first = True
        async for batch in changes:
            if is_first:
                # What was saved between the scan at start and the first watch told nobody.
                await self.scan()
                is_first = False
            for folder in sorted({self._module_folder(Path(path)) for _, path in batch} - {None}, key=str):
                if folder is not None and (folder / MANIFEST).is_file():
                    await self._register(folder)

    def _module_folder(self, path: Path) -> Path | None:
        try:
            parts = path.relative_to(self._directory).parts
        except ValueError:
            return None
        return self._directory / parts[0] if parts else None

    async def _register(self, folder: Path) -> None:
        try:
            await self._registry.register_folder(folder, Origin.DIRECTORY)
        except DevkitError as exc:
            log.warning("module not registered: %s", exc.message, extra={"folder": folder.name, "code": exc.code})
            await self._registry.note_problem(str(folder), exc.message)
        except (StateError, OSError):
            log.exception("module not registered: its document could not be stored", extra={"folder": folder.name})
