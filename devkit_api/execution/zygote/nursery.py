"""The nursery: imports the SDK once and forks a zygote for each order. Nothing of a module ever runs in it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any

from . import confine, rehearsal, sandbox, user_namespace, wire, zygote

# What a run with a token imports sooner or later; the rest of the SDK comes with these.
_WARM = (
    "hla_compass.runtime.runner",
    "hla_compass.client",
    "hla_compass.storage",
    "hla_compass.storage_upload",
    "hla_compass.data",
    "hla_compass.data_views",
    "hla_compass.notebooks",
    "hla_compass.validation",
    "keyring",
    "keyring.backends.null",
    "encodings.idna",
    "http.cookiejar",
    "netrc",
    "stringprep",
    "json.encoder",
    "concurrent.futures.thread",
    "multiprocessing.util",
)


def main(socket_fd: int, server: int, *, contained: bool) -> None:
    """Serve orders until the server goes away. `contained`: in a user namespace, where that is possible."""
    confine.die_with(server)
    if contained and os.geteuid() != 0 and user_namespace.is_available():
        user_namespace.enter(socket_fd)
        confine.die_with(0)  # what the first process of a namespace sees as its parent
    confine.adopt_orphans()
    connection = wire.Connection(socket.socket(fileno=socket_fd))
    gc.disable()
    _import_sdk()
    rehearsal.rehearse()
    gc.collect()
    gc.freeze()
    connection.send({"op": "hello", "namespaces": sandbox.is_available()})
    _Nursery(connection).serve()


def _import_sdk() -> None:
    importlib.import_module(_WARM[0])
    for name in _WARM[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _warm_caches()


def _warm_caches() -> None:
    """Work the SDK does in every process and that does not depend on the run."""
    with contextlib.suppress(Exception):
        importlib.import_module("keyring").get_keyring()
    with contextlib.suppress(Exception):
        validator = importlib.import_module("jsonschema").Draft7Validator
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        validator.check_schema(schema)
        list(validator(schema).iter_errors({"n": 1}))


class _Nursery:
    """The loop, and the zygotes that live: pidfd -> pid."""

    def __init__(self, connection: wire.Connection) -> None:
        self._connection = connection
        self._zygotes: dict[int, int] = {}
        self._namespaces: sandbox.ProcessNamespaces | None = None
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Until the server's end closes; then every process that came from this one is ended before it."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._zygotes:
                    self._bury(fd)
                elif not self._take_orders():
                    confine.end_all_children()
                    return

    def _take_orders(self) -> bool:
        while True:
            message = self._connection.receive()
            if message is None:
                return False
            self._hatch(message.body, message.fds[0])
            if not self._connection.has_message:
                return True

    def _hatch(self, order: dict[str, Any], fd: int) -> None:
        try:
            pid = self._fork(order, fd)
        except OSError as exc:
            # A machine full of processes costs this zygote, and not those that live.
            self._connection.send({"op": "failed", "id": order["id"], "reason": os.strerror(exc.errno or 0)})
            return
        finally:
            os.close(fd)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as exc:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._connection.send({"op": "failed", "id": order["id"], "reason": os.strerror(exc.errno or 0)})
            return
        self._zygotes[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        # The descriptor, not the number: that may mean another process where the server is.
        self._connection.send({"op": "hatched", "id": order["id"]}, [pidfd])

    def _fork(self, order: dict[str, Any], fd: int) -> int:
        parent = os.getpid()
        if order["namespaces"]:
            self._namespaces = self._namespaces or sandbox.ProcessNamespaces()
            self._namespaces.enter()
            parent = 0  # what the first process of a namespace sees as its parent
        try:
            pid = os.fork()
            if pid == 0:
                self._become_zygote(order, fd, parent)
        finally:
            if order["namespaces"] and self._namespaces:
                self._namespaces.leave()
        return pid

    def _become_zygote(self, order: dict[str, Any], fd: int, parent: int) -> None:
        code = 70
        try:
            self._connection.close()
            for pidfd in self._zygotes:
                os.close(pidfd)
            zygote.main(wire.Connection(socket.socket(fileno=fd)), order, parent)
            code = 0
        except BaseException:  # whatever happens, a zygote never goes on as a second nursery
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _end_adopted(self) -> None:
        """What a run had started, and its zygote left behind. In namespaces of their own there is nothing."""
        for pid in set(confine.children(os.getpid())) - set(self._zygotes.values()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _bury(self, pidfd: int) -> None:
        pid = self._zygotes.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if os.getpid() != 1:
            self._end_adopted()
        code = os.waitstatus_to_exitcode(status)
        text = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        with contextlib.suppress(OSError):  # the server may be gone first
            self._connection.send({"op": "gone", "pid": pid, "how": text})
