"""The private directory of a run: what the runner reads, what it writes, and nothing else.

A directory belongs to a lane and serves its runs one after the other. Between two runs everything is removed that
`prepare` did not make; whatever is not exactly as it was made costs the whole directory. Making and deleting a dozen
inodes per run instead would be the largest part of a short run's cost on file systems such as ext4.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from aiofiles.os import wrap

from devkit_api import jsonio
from devkit_api.execution.protocol import RunSpec

log = logging.getLogger(__name__)

# They lie inside the run's own folder.
_FOLDERS = ("", "/cwd", "/home", "/home/.hla-compass", "/tmp", "/out", "/scratch")  # noqa: S108  # nosec B108
_FILES = ("/input.json", "/context.json")

# What must not change between two runs: inode, type and mode, owner, and for links when they were last touched.
_Identity = tuple[int, int, int, int]


@attrs.define
class Workdir:
    """`root/` holds input, context, output and summary; `root/cwd` is where the module runs."""

    root: Path
    owner: int | None = None
    _made: dict[str, _Identity] = attrs.Factory(dict)

    @property
    def cwd(self) -> Path:
        """Working directory: links to the files of the source bundle, and room for the module's own."""
        return self.root / "cwd"

    @wrap
    def prepare(self, source: Path, spec: RunSpec) -> None:
        """Bring the directory into its first state and write what the runner reads. Raises `OSError`."""
        if self._made:
            with suppress(OSError):  # it is not as it was: another one then
                self._write_order(spec)
                return
        self._remove()
        self._made = dict(self._make(str(self.root), str(source)))
        self._write_order(spec)

    def _write_order(self, spec: RunSpec) -> None:
        for name, content in zip(_FILES, (spec.payload, spec.context), strict=True):
            with os.fdopen(self._emptied(name), "wb") as file:
                file.write(jsonio.dumps(content))

    def _emptied(self, name: str) -> int:
        """Our own file, open and empty. Raises `OSError` when a module has put something else in its place."""
        fd = os.open(str(self.root) + name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        info, made = os.fstat(fd), self._made.get(str(self.root) + name)
        if made is None or not stat.S_ISREG(info.st_mode) or info.st_ino != made[0]:
            os.close(fd)
            raise FileExistsError(errno.EEXIST, "not the file of the run", name)
        os.ftruncate(fd, 0)
        return fd

    def _make(self, root: str, source: str) -> Iterator[tuple[str, _Identity]]:
        paths = [root + folder for folder in _FOLDERS]
        for folder in paths:
            os.mkdir(folder, 0o700)
        for name in os.listdir(source):
            paths.append(f"{root}/cwd/{name}")
            os.symlink(f"{source}/{name}", paths[-1])
        for name in _FILES:
            paths.append(root + name)
            os.close(os.open(paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for path in paths:
            if self.owner is not None:
                os.chown(path, self.owner, self.owner, follow_symlinks=False)
            yield path, _identity(os.lstat(path))

    @wrap
    def finish(self, max_output_bytes: int, keep_as: Path | None = None) -> tuple[bytes | None, bool]:
        """The output file's bytes and whether it was too large; then the directory is ready for another run."""
        try:
            return self._read_output(max_output_bytes)
        finally:
            self._forget_order()
            if not (self._keep(keep_as) if keep_as is not None else self._tidy()):
                self._remove()

    def _keep(self, keep_as: Path) -> bool:
        self._made = {}
        try:
            os.rename(self.root, keep_as)
        except OSError:
            log.exception("the work directory of a run could not be kept", extra={"run": keep_as.name})
            return False
        return True

    def _read_output(self, max_bytes: int) -> tuple[bytes | None, bool]:
        """A link (even of its folder), a device, or another user's file under a second name is no output."""
        try:
            folder = os.open(self.root / "out", os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None, False
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open("output.json", flags, dir_fd=folder)
        except OSError:
            return None, False
        finally:
            os.close(folder)
        with os.fdopen(fd, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or self.owner not in (None, info.st_uid):
                return None, False
            if info.st_size > max_bytes:
                return None, True
            return file.read(max_bytes + 1)[:max_bytes], False

    def _forget_order(self) -> None:
        """Parameters and token of a run that has ended stay nowhere."""
        for name in _FILES:
            with suppress(OSError):
                os.close(self._emptied(name))

    def _tidy(self) -> bool:
        """Remove the files a run left; False when what `prepare` made is not as it was."""
        found = 0
        try:
            for folder in _FOLDERS:
                with _opened(str(self.root), folder) as fd, os.scandir(fd) as entries:
                    for entry in entries:
                        made = self._made.get(f"{self.root}{folder}/{entry.name}")
                        if made is None:
                            os.unlink(entry.name, dir_fd=fd)
                        elif made != _identity(entry.stat(follow_symlinks=False)):
                            return False
                        else:
                            found += 1
        except OSError:
            return False
        return found == len(self._made) - 1 and self._made[str(self.root)] == _identity(os.lstat(self.root))

    @wrap
    def remove(self) -> None:
        """Delete everything, whatever modes the module left behind."""
        self._remove()

    def _remove(self) -> None:
        self._made = {}
        remove_tree(self.root)


@contextmanager
def _opened(root: str, folder: str) -> Iterator[int]:
    """A folder of a run, by a way without links: whoever still runs there could put one in at any moment."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(root, flags)
    try:
        for part in folder.split("/")[1:]:
            outer, fd = fd, os.open(part, flags, dir_fd=fd)
            os.close(outer)
        yield fd
    finally:
        os.close(fd)


def remove_tree(root: Path) -> None:
    """Delete a folder with everything in it, whatever modes, and however deep, a module left it."""
    if not os.path.lexists(root):
        return
    with suppress(RecursionError):
        shutil.rmtree(root, ignore_errors=True)
    if os.path.lexists(root):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(root)], check=False, capture_output=True)  # noqa: S603  our own path


def _identity(info: os.stat_result) -> _Identity:
    if stat.S_ISLNK(info.st_mode):
        return info.st_ino, info.st_mode, info.st_uid, info.st_ctime_ns
    # A directory's links are its subdirectories; a file must have no second name.
    return info.st_ino, info.st_mode, info.st_uid, 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink
