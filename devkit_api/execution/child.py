"""Start of a run in an interpreter of its own: the SDK's runner as `python -m hla_compass.runtime.runner` would do it.

Standard library only, started as a file and not as part of the package: a module's process must not depend on, or
see, the devkit's own code. What the process may do was settled by the zygote that started it.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """`child.py`, in the run's working directory."""
    sys.argv[:] = ["module-runner"]
    sys.path[0] = os.getcwd()  # noqa: PTH109  no pathlib before the module
    from hla_compass.runtime.runner import main as run

    run()


if __name__ == "__main__":
    main()
