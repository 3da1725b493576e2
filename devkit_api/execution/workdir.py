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
        """Create the directory afresh and write what the runner reads."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in ("cwd", "home", "tmp", "out", "scratch"):
            (self.root / folder).mkdir(parents=True, mode=0o700)
        self.root.chmod(0o700)
        for entry in source.iterdir():
            (self.cwd / entry.name).symlink_to(entry)
        _write_private(self.root / "input.json", jsonio.dumps(spec.payload))
        _write_private(self.root / "context.json", jsonio.dumps(spec.context))

    @wrap
    def read_output(self, max_bytes: int) -> tuple[bytes | None, bool]:
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

        def make_writable(_function: Callable[..., object], path: str, _error: object) -> None:
            with suppress(OSError):
                os.chmod(Path(path).parent, 0o700)  # noqa: PTH101  rmtree hands text
                Path(path).unlink()

        shutil.rmtree(self.root, onerror=make_writable)


def _write_private(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
