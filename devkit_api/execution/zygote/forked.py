"""A run, from its fork to its exit: what `python -m hla_compass.runtime.runner` does, without the wait for imports."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import types
from contextlib import suppress
from typing import Any

from . import confine, wire
from .preimport import Imported

_RUNNER = "hla_compass.runtime.runner"


def main(connection: wire.Connection, zygote: int, imported: Imported) -> None:
    """Get ready, wait for the order, run it. Never returns."""
    code = 70
    try:
        cwd = _get_ready(connection, zygote, imported)
        connection.close()  # a module must find nothing to speak on
        code = _run(cwd, imported)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _get_ready(connection: wire.Connection, zygote: int, imported: Imported) -> str:
    """Where the run works. What goes wrong until then is not the module's doing, and the zygote is told."""
    try:
        os.setsid()
        confine.die_with(zygote)
        confine.set_dumpable(True)
        _start_afresh(imported)
        message = connection.receive()
        if message is None:
            os._exit(0)
        _become_run(message.body, message.fds[0], connection.fileno())
        return str(message.body["cwd"])
    except BaseException as exc:
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else type(exc).__name__
        with suppress(OSError):
            connection.send({"problem": reason})
        os._exit(70)


def _start_afresh(imported: Imported) -> None:
    """State that must not be the same in two runs, or that imports left behind for this process alone."""
    sys.argv[:] = ["module-runner"]
    runner = importlib.import_module(_RUNNER)
    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(__spec__=runner.__spec__, __file__=runner.__file__, __builtins__=__builtins__)
    sys.modules["__main__"] = main_module
    tempfile.tempdir = None
    _seed(imported)
    gc.enable()


def _become_run(order: dict[str, Any], output: int, kept: int) -> None:
    confine.limit(order["limits"])
    os.chdir(order["cwd"])
    confine.replace_environment(order["environment"])
    confine.take_over_stdio(output, kept)
    if order.get("exec"):
        os.execve(order["exec"][0], order["exec"], order["environment"])  # noqa: S606


def _configure_logging(runner: Any, imported: Imported) -> None:
    """As the runner does it in a fresh process; handlers the module added while it was imported come after."""
    root = logging.getLogger()
    added = [handler for handler in root.handlers if handler is not imported.log_handler]
    root.handlers[:] = []
    runner._configure_logging()
    root.handlers.extend(added)
    if imported.log_level is not None:
        root.setLevel(imported.log_level)


def _seed(imported: Imported) -> None:
    """Forks share their random numbers unless told otherwise. A module that seeds at import keeps its seed."""
    random = sys.modules["random"]
    if imported.random_state is not None:
        random.setstate(imported.random_state)  # Python itself reseeds after a fork
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        generator = numpy_random.mtrand._rand._bit_generator
        if getattr(generator, "_seed_seq", None) is not None:  # None: it was seeded explicitly
            numpy_random.seed()


def _run(cwd: str, imported: Imported) -> int:
    """The runner, and the end of an interpreter: threads joined, exit handlers called, files flushed."""
    sys.path[0] = cwd
    _configure_logging(sys.modules[_RUNNER], imported)
    if imported.printed:
        os.write(1, imported.printed)
    code = _guarded(sys.modules[_RUNNER].main)
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for opened in gc.get_objects():  # frozen objects, those of before the fork, are not among them
        if issubclass(type(opened), (io.BufferedWriter, io.TextIOWrapper)):
            with suppress(Exception):
                opened.flush()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return 120
    return code


def _guarded(function: Any) -> int:
    """The exit code the interpreter would end with."""
    try:
        function()
    except SystemExit as exc:
        if exc.code is None:
            return 0
        if isinstance(exc.code, int):
            return exc.code & 0xFF
        print(exc.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
