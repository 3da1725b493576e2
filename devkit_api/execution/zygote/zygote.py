"""A zygote: holds one module in memory and forks a run of it whenever it is told to, one at a time."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from . import confine, forked, preimport, rehearsal, sandbox, wire

_FORK_ATTEMPTS = 100
_FORK_WAIT = 0.05


def main(connection: wire.Connection, order: dict[str, Any], nursery: int) -> None:
    """Import the order's module unless it says not to, then serve runs until the server closes the connection."""
    os.setsid()
    has_own_memory = order["namespaces"] and sandbox.furnish(order)
    if order["door"] is not None:
        with sandbox.cut_network(*order["door"]) as door:
            connection.send({"op": "door"}, [door.fileno()])  # before any code of the module could send another
    if order["user"] is not None:
        sandbox.drop_to(order["user"])
        confine.set_dumpable(True)  # the kernel withdrew it; without it a process cannot read its own /proc
    elif order["namespaces"]:
        sandbox.drop_capabilities()
    confine.no_new_privileges()
    confine.no_message_queues()
    confine.limit(order["limits"])
    confine.adopt_orphans()
    confine.die_with(nursery)
    confine.replace_environment(order["environment"])
    time.tzset()
    os.chdir(order["source"])
    preimport.hide_ourselves()
    started = time.perf_counter()
    imported = preimport.Imported()
    if order["preimport"]:
        imported = preimport.import_module(order["entrypoint"], order["source"])
        if imported.problem is not None:
            connection.send({"op": "unfit", "reason": imported.problem})
            return
    gc.collect()
    holes = rehearsal.fill_holes()
    gc.freeze()
    seconds = time.perf_counter() - started
    if not order["namespaces"]:
        # From now on we see the server's end ourselves, and have to outlive it long enough to end what runs have
        # started. In a namespace the kernel does that.
        confine.outlive_parent()
    confine.set_dumpable(False)  # runs have the same user, and must not reach into their zygote
    connection.send({"op": "ready", "seconds": seconds, "memory_bytes": _private_memory()})
    has_own_user = order["user"] is not None
    sweep = _Sweep(order["namespaces"] or has_own_user, has_own_memory or has_own_user)
    _serve(connection, imported, sweep)
    del holes


class _Spare:
    """A fork made ahead of its run, waiting for the order."""

    def __init__(self, server: wire.Connection, imported: preimport.Imported) -> None:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        sys.stdout.flush()
        self.pid = _fork()
        if self.pid == 0:
            ours.close()
            server.close()
            forked.main(wire.Connection(theirs), parent, imported)
        theirs.close()
        self._connection = wire.Connection(ours)

    def takes(self, message: wire.Message) -> bool:
        """Hand over the order; False when the spare is gone."""
        try:
            self._connection.send(message.body, message.fds)
        except OSError:
            return False
        return True

    def problem(self) -> str | None:
        """Of a spare that has ended: why it did not become a run, or None."""
        with suppress(OSError, wire.ProtocolError):
            said = self._connection.receive()
            return None if said is None else str(said.body.get("problem"))
        return None

    def discard(self) -> None:
        """Forget a spare that has ended, or is to end."""
        self._connection.close()
        confine.end_all_children()


def _fork() -> int:
    """`os.fork`, with patience: a machine full of processes has room again in a moment, and a run is waiting."""
    for _ in range(_FORK_ATTEMPTS):
        with suppress(OSError):
            return os.fork()
        # The kernel does not tell when it has room for a process again.
        time.sleep(_FORK_WAIT)
    return os.fork()


class _Sweep:
    """Removes what a run leaves in shared memory, where user or namespaces are ours alone: System V objects, files.

    Files that the module's import has made stay.
    """

    def __init__(self, objects: bool, files: bool) -> None:
        self._objects = objects
        self._files = files
        self._imported = frozenset(confine.names_in(sandbox.SHARED_MEMORY))
        self.is_clean = True

    def after_run(self) -> None:
        if self._objects:
            confine.remove_shared()
        if self._files:
            self.is_clean = confine.remove_files(sandbox.SHARED_MEMORY, self._imported)


def _serve(connection: wire.Connection, imported: preimport.Imported, sweep: _Sweep) -> None:
    """Run after run, as long as each leaves nothing to the next."""
    spare = _Spare(connection, imported)
    while sweep.is_clean and (message := connection.receive()) is not None:
        if message.body["op"] != "run":
            continue  # a signal for a run that has just ended is late, and means nothing
        # Said before the order is handed over: whoever has not read this knows that the run did not begin.
        connection.send({"op": "accepted"})
        if not spare.takes(message):
            spare.discard()
            spare = _Spare(connection, imported)
            spare.takes(message)  # one that is gone as well says why, below
        os.close(message.fds[0])
        _conduct(connection, spare, sweep)
        spare.discard()
        spare = _Spare(connection, imported)


def _conduct(connection: wire.Connection, spare: _Spare, sweep: _Sweep) -> None:
    """See a run to its end and report it."""
    pid = spare.pid
    connection.send({"op": "started", "pid": pid, "start_time": confine.start_time(pid)})
    _until_dead(connection, pid)
    confine.signal_group(pid, signal.SIGKILL)  # while the leader is a zombie, its group's id cannot be another's
    _, status, usage = os.wait4(pid, 0)
    confine.end_all_children()
    sweep.after_run()
    code = os.waitstatus_to_exitcode(status)
    connection.send(
        {
            "op": "exited",
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": usage.ru_maxrss * 1024,
            "problem": spare.problem(),
        }
    )


def _until_dead(connection: wire.Connection, pid: int) -> None:
    """Wait for the run's leader and pass on signals; without a server there is nobody to run for."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(connection.fileno(), select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if pidfd in ready:
                return
            _pass_on_signals(connection, pid)
    finally:
        os.close(pidfd)


def _pass_on_signals(connection: wire.Connection, pid: int) -> None:
    """Everything that has arrived: what was read along with another message wakes no poll."""
    while True:
        message = connection.receive()
        if message is None:
            _end_with_the_server(pid)
        elif message.body["op"] == "signal":
            confine.signal_group(pid, message.body["number"])
        if not connection.has_message:
            return


def _end_with_the_server(pid: int) -> NoReturn:
    """Nobody is left to run for: end the run and all it started, wherever that has gone, then ourselves."""
    confine.signal_group(pid, signal.SIGKILL)
    confine.end_all_children()
    os._exit(0)


def _private_memory() -> int:
    """Bytes this process does not share with the nursery."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    except OSError:
        return 0
