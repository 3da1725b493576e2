"""The watched directory: each subfolder with a manifest.json is a module, and stays registered as it is edited.

A save that breaks a module keeps its last good registration, and says what is wrong in the log and in `sourceStatus`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import aclosing, suppress
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from devkit_api.errors import DevkitError
from devkit_api.left_out import LEFT_OUT_FOLDERS
from devkit_api.modules.models import Origin
from devkit_api.modules.service import ModuleRegistry
from devkit_api.modules.source_files import MANIFEST, source_folders

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


class ModulesWatcher:
    """Registers what is in a directory, then follows its changes until stopped."""

    def __init__(self, registry: ModuleRegistry, directory: Path, ignored: Path) -> None:
        self._registry = registry
        self._directory = directory.resolve()
        self._ignored = ignored.resolve()
        # The devkit's own state may lie in the directory, even in a module; what it writes there is no edit.
        self._filter = DefaultFilter(
            ignore_dirs=[*DefaultFilter.ignore_dirs, *LEFT_OUT_FOLDERS], ignore_paths=[f"{self._ignored}/"]
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._folders: dict[str, Path] = {}

    async def start(self) -> None:
        """Register every module folder once, then watch in the background."""
        await self.scan()
        self._task = asyncio.create_task(self._follow(), name="modules-watcher")

    async def scan(self) -> None:
        """Register every module folder as it is now."""
        folders = sorted(path.parent for path in self._directory.glob(f"*/{MANIFEST}"))
        for folder in folders:
            await self._register(folder)
        if not folders:
            self._explain_emptiness()

    def _explain_emptiness(self) -> None:
        if (self._directory / MANIFEST).is_file():
            log.warning(
                "%s is a module itself; name the folder above it, whose subfolders are modules", self._directory
            )
        else:
            log.warning("%s holds no module yet: a subfolder with a manifest.json is one", self._directory)

    async def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _follow(self) -> None:
        """Until stopped. What goes away while it is looked at, be it the directory itself, is looked for again."""
        is_watched = True
        while not self._stop.is_set():
            try:
                await self._follow_changes()
                is_watched = True
            except (OSError, RuntimeError) as exc:
                if is_watched:
                    log.warning("changes of %s are not seen now, it will be tried again: %s", self._directory, exc)
                is_watched = False
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _AGAIN_SECONDS)

    async def _follow_changes(self) -> None:
        """Until there are other folders to watch, or until stopped."""
        folders = await asyncio.to_thread(self._watched)
        # One by one, as a page's node_modules must not be among them: thousands of folders, made and removed by npm.
        # The filter leaves out caches and the temporary files of editors as well.
        changes = awatch(
            *folders,
            watch_filter=self._filter,
            stop_event=self._stop,
            debounce=300,
            rust_timeout=500,
            yield_on_timeout=True,
            recursive=False,
        )
        is_first = True
        async with aclosing(changes):
            async for batch in changes:
                if is_first:
                    # What was saved between the last look and the first watch told nobody.
                    await self.scan()
                for folder in sorted({self._module_folder(Path(path)) for _, path in batch} - {None}, key=str):
                    if folder is not None and (folder / MANIFEST).is_file():
                        await self._register(folder)
                # A folder that was replaced has the same name, and nobody watches it.
                if any(change is not Change.modified and Path(path) in folders for change, path in batch):
                    return
                if (batch or is_first) and await asyncio.to_thread(self._watched) != folders:
                    return
                is_first = False

    def _watched(self) -> frozenset[Path]:
        """The directory, its subfolders, and of those that are modules every folder that is part of them."""
        found = {self._directory}
        for folder in self._directory.iterdir():
            if not folder.is_dir() or folder.name in LEFT_OUT_FOLDERS:
                continue
            found.update(source_folders(folder) if (folder / MANIFEST).is_file() else [folder])
        return frozenset(folder for folder in found if self._is_ours(folder))

    def _is_ours(self, folder: Path) -> bool:
        return not folder.is_relative_to(self._ignored) and os.access(folder, os.R_OK | os.X_OK)

    def _module_folder(self, path: Path) -> Path | None:
        try:
            parts = path.relative_to(self._directory).parts
        except ValueError:
            return None
        return self._directory / parts[0] if parts else None

    async def _register(self, folder: Path) -> None:
        """One folder that cannot be registered must not end the watching of the others."""
        try:
            try:
                registration = await self._registry.register_folder(folder, Origin.DIRECTORY)
            except DevkitError as exc:
                log.warning("module not registered: %s", exc.message, extra={"folder": folder.name, "code": exc.code})
                await self._registry.note_problem(str(folder), exc.message)
            else:
                self._warn_of_twins(folder, registration.module.key)
        except Exception:
            log.exception("module not registered", extra={"folder": folder.name})

    def _warn_of_twins(self, folder: Path, key: str) -> None:
        other = self._folders.setdefault(key, folder)
        if other != folder and (other / MANIFEST).is_file():
            log.warning(
                "two folders hold module %s; the last one saved is used",
                key,
                extra={"folders": f"{other.name}, {folder.name}"},
            )
        self._folders[key] = folder
