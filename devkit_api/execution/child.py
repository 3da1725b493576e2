"""First code of a module's process: give up what a module does not need, then hand over to the SDK's runner.

Standard library only, started as a file and not as part of the package: the module's process must not depend on, or
see, the devkit's own code.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38


def restrict(parent: int) -> None:
    """No core dumps, no new privileges, and death with the parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the line above took effect
        os._exit(70)


def main() -> None:
    """`child.py PARENT_PID CWD`: run the SDK's runner as `python -m hla_compass.runtime.runner` would in CWD."""
    parent, cwd = int(sys.argv[1]), sys.argv[2]
    restrict(parent)
    os.chdir(cwd)
    sys.argv[:] = ["module-runner"]
    sys.path[0] = cwd
    from hla_compass.runtime.runner import main as run

    run()


if __name__ == "__main__":
    main()
