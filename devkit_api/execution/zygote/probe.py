"""Whether this user may have namespaces on this machine. Run as a file: what trying changes ends with the process."""

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    name = "sandbox" if os.geteuid() == 0 else "user_namespace"
    sys.exit(0 if importlib.import_module(f"zygote.{name}").is_available() else 1)
