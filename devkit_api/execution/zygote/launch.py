"""Start of a nursery, run as a file: loads its siblings under a private name, without importing `devkit_api`."""

from __future__ import annotations

import importlib
import os
import sys
import types

PACKAGE = "_devkit_zygote"


def main() -> None:
    """`launch.py SOCKET_FD SERVER_PID MARK contained|plain`."""
    folder = sys.path.pop(0)
    package = types.ModuleType(PACKAGE)
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules[PACKAGE] = package
    sys.path.insert(0, folder)  # its place is the module's later
    importlib.import_module(f"{PACKAGE}.nursery").main(
        int(sys.argv[1]), int(sys.argv[2]), contained=sys.argv[4] == "contained"
    )


if __name__ == "__main__":
    main()
