"""Virtual environments, one per set of requirements: built once, used by every run that needs the same, gone with age.

Only wheels are installed. Building from source would run a package's code as the user of the devkit.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
from aiofiles.os import wrap

from devkit_api.execution.environment import build_environment
from devkit_api.execution.environments.requirements import Requirements, RequirementsRefused, read
from devkit_api.execution.workdir import remove_tree
from devkit_api.locks import KeyedLocks

log = logging.getLogger(__name__)

_DONE = "complete"
_STATED = "requested.txt"
_LAST_LINES = 15
_LONGEST = 1800
Say = Callable[[bytes], None]


class EnvironmentFailed(Exception):
    """There is no environment for the module; the text is the resolver's, for its author."""


@attrs.define
class Environments:
    """Environments under `root`. `days`: unused for longer, they are removed at start. Not `enabled`: there are none,
    and what a module lacks is its own import error.
    """

    root: Path
    days: int
    enabled: bool = True
    _python: dict[str, Path] = attrs.Factory(dict)
    _locks: KeyedLocks = attrs.Factory(KeyedLocks)

    async def open(self) -> None:
        """Remove what was not finished, and what nobody has used for long."""
        await self._sweep()

    def has_own_python(self, digest: str) -> bool:
        """Whether it is known by now that the devkit's own interpreter does for the module."""
        return not self.enabled or self._python.get(digest) == Path(sys.executable)

    async def python(self, digest: str, source: Path, say: Say) -> Path:
        """The interpreter for a module; what a build says goes to `say`. Raises `EnvironmentFailed`."""
        if not self.enabled:
            return Path(sys.executable)
        known = self._python.get(digest)
        if known is None:
            try:
                known = self._python[digest] = await self._find_or_build(source, say)
            except OSError as exc:
                raise EnvironmentFailed(f"it could not be built ({os.strerror(exc.errno or 0)})") from exc
        elif known != Path(sys.executable):
            await asyncio.to_thread(_touch, known.parents[1])
        return known

    async def _find_or_build(self, source: Path, say: Say) -> Path:
        try:
            requirements = await asyncio.to_thread(read, source)
            missing = await asyncio.to_thread(requirements.missing) if requirements else []
        except RequirementsRefused as exc:
            raise EnvironmentFailed(str(exc)) from None
        if requirements is None or not missing:
            return Path(sys.executable)
        folder = self.root / _key(requirements)
        async with self._locks.of(folder.name):
            if (folder / _DONE).exists():
                await asyncio.to_thread(_touch, folder)
            else:
                await self._build(folder, requirements, missing, say)
        return folder / "bin" / "python"

    async def _build(self, folder: Path, requirements: Requirements, missing: list[str], say: Say) -> None:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        say(f"Building an environment for the module, which needs {shown}.\n".encode())
        log.info("building an environment", extra={"environment": folder.name, "missing": shown})
        started = time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST):
                await _install(folder, requirements, say)
            (folder / _DONE).touch()
        except BaseException as exc:
            await asyncio.to_thread(remove_tree, folder)
            if isinstance(exc, TimeoutError):
                raise EnvironmentFailed(f"building the environment took longer than {_LONGEST} s") from None
            raise
        say(f"The environment is ready after {time.monotonic() - started:.1f} s; later runs use it again.\n".encode())

    @wrap
    def _sweep(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        oldest = time.time() - self.days * 86_400
        for folder in self.root.iterdir():
            with suppress(OSError):
                done = folder / _DONE
                if not done.exists() or done.stat().st_mtime < oldest:
                    remove_tree(folder)


def _key(requirements: Requirements) -> str:
    parts = (requirements.text, platform.python_version(), platform.machine(), sys.executable, _sdk())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _sdk() -> str:
    return f"hla-compass=={importlib.metadata.version('hla-compass')}"


async def _install(folder: Path, requirements: Requirements, say: Say) -> None:
    """uv when it is there, else venv and pip. The SDK comes along, unless the module names it itself."""
    named = any(item.name.lower().replace("_", "-") == "hla-compass" for item in requirements.stated)
    stated = folder / _STATED
    wanted = ["--only-binary", ":all:", "-r", str(stated), *([] if named else [_sdk()])]
    python = str(folder / "bin" / "python")
    uv = _uv()
    if uv is None:
        make = [sys.executable, "-I", "-m", "venv", str(folder)]
        install = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *wanted]
    else:
        make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        install = [uv, "pip", "install", "--python", python, "--link-mode", "copy", *wanted]
    await _run(make, say)
    await asyncio.to_thread(stated.write_text, requirements.text)
    await _run(install, say)


def _uv() -> str | None:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


async def _run(command: list[str], say: Say) -> None:
    """Run one step; its lines go to `say`, and the last of them into the error when it fails.

    Never in a folder of the module: uv would take settings from there, and Python its modules.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd="/", env=build_environment(), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True, limit=1024**2,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101  it is a pipe
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        async for line in process.stdout:
            say(line)
            last.append(line.decode("utf-8", "replace").rstrip())
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    if code != 0:
        raise EnvironmentFailed("\n".join(last) or f"{Path(command[0]).name} ended with {code}")


def _touch(folder: Path) -> None:
    with suppress(OSError):
        os.utime(folder / _DONE)
