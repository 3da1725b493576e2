"""The private directory of one run: what the runner reads, what it writes, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.execution.protocol import RunSpec

_FOLDERS = ("cwd", "home", "tmp", "out", "scratch")


@attrs.frozen
class Workdir:
    """`root/` holds input, context, output and summary; `root/cwd` is where the module runs."""

    root: Path

    @property
    def cwd(self) -> Path:
        """Working directory: links to the files of the source bundle, and room for the module's own."""
        return self.root / "cwd"

    @property
    def output(self) -> Path:
        """Where the runner writes its output. Its folder is the run's alone."""
        return self.root / "out" / "output.json"

    @wrap
    def prepare(self, source: Path, spec: RunSpec) -> None:
        """Create the directory afresh and write what the runner reads. Plain calls: every run pays for this."""
        root = str(self.root)
        try:
            os.mkdir(root, 0o700)
        except FileExistsError:
            self._remove()
            os.mkdir(root, 0o700)
        for folder in _FOLDERS:
            os.mkdir(f"{root}/{folder}", 0o700)
        for name in os.listdir(source):
            os.symlink(f"{source}/{name}", f"{root}/cwd/{name}")
        _write_private(f"{root}/input.json", jsonio.dumps(spec.payload))
        _write_private(f"{root}/context.json", jsonio.dumps(spec.context))

    @wrap
    def finish(self, max_output_bytes: int, *, keep: bool) -> tuple[bytes | None, bool]:
        """`read_output`, and then the end of the directory unless it is to be kept."""
        try:
            return self._read_output(max_output_bytes)
        finally:
            if not keep:
                self._remove()

    def _read_output(self, max_bytes: int) -> tuple[bytes | None, bool]:
        """The output file's bytes and whether it was too large. A link or a device is no output."""
        try:
            fd = os.open(self.output, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None, False
        with os.fdopen(fd, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                return None, False
            if info.st_size > max_bytes:
                return None, True
            return file.read(max_bytes + 1)[:max_bytes], False

    @wrap
    def remove(self) -> None:
        """Delete everything, whatever modes the module left behind."""
        self._remove()

    def _remove(self) -> None:
        if not _remove_tidy(str(self.root)):
            shutil.rmtree(self.root, onerror=_make_writable)


def _remove_tidy(root: str) -> bool:
    """Remove what `prepare` made and nearly every run leaves; False when there is more."""
    try:
        for folder in (*(f"{root}/{name}" for name in _FOLDERS), root):
            with os.scandir(folder) as entries:
                names = [entry.path for entry in entries if not entry.is_dir(follow_symlinks=False)]
            for name in names:
                os.unlink(name)
            os.rmdir(folder)
    except OSError:
        return False
    return True


def _make_writable(_function: Callable[..., object], path: str, _error: object) -> None:
    with suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.unlink(path)


def _write_private(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
