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

    def environment(self, spec: RunSpec) -> dict[str, str]:
        """The whole environment of the process (wire-contract E.1). Nothing is inherited but PATH and the locale."""
        home, temporary = self.root / "home", self.root / "tmp"
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        fixed = {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "MPLCONFIGDIR": str(temporary),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Without it the SDK logs warnings about missing key rings into every run (wire-contract 1.6).
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "NO_PROXY": "127.0.0.1,localhost",
            "HLA_COMPASS_CONFIG_DIR": str(home / ".hla-compass"),
            "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
            "HLA_COMPASS_WORKDIR": str(self.root / "scratch"),
            "HLA_COMPASS_PAYLOAD": str(self.root / "input.json"),
            "HLA_COMPASS_CONTEXT": str(self.root / "context.json"),
            "HLA_COMPASS_OUTPUT": str(self.output),
            "HLA_COMPASS_SUMMARY": str(self.output.with_name("summary.json")),
            "HLA_COMPASS_MODULE": spec.entrypoint,
            "HLA_COMPASS_MODULE_ID": spec.module_id,
            "HLA_COMPASS_RUN_ID": spec.run_id,
            "HLA_COMPASS_RUN_MODE": spec.mode,
            "HLA_COMPASS_LOG_FORMAT": "json",
            "HLA_COMPASS_EXECUTE_TIMEOUT_SECONDS": f"{spec.limits.runtime_seconds:g}",
            # Local runs poll and report as often as they like; the server has its own limits.
            "HLA_RATE_LIMIT_MAX_REQUESTS": "10000",
        }
        return {**inherited, **spec.environment, **fixed}

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
        """The output file's bytes and whether it was too large. A link (even of its folder) or a device is none."""
        try:
            folder = os.open(self.output.parent, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None, False
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(self.output.name, flags, dir_fd=folder)
        except OSError:
            return None, False
        finally:
            os.close(folder)
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
