"""What of a module's folder is no part of the module: in one place, for everything that copies, sends or watches one.

Imports nothing of the package: `setup.py` runs this file before the package is installed.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# What the SDK's own packaging leaves out (wire-contract B.5), and what only grows a bundle.
LEFT_OUT_FOLDERS = frozenset(
    {"node_modules", ".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".devkit",
     ".hypothesis", ".idea", ".vscode", ".tox", ".eggs"}
)  # fmt: skip
_FILES = frozenset({".DS_Store"})
_SECRET_NAMES = re.compile(
    r"\.env(\..+)?|.*\.(pem|key|pfx|p12)|id_(rsa|dsa|ecdsa|ed25519)|credentials(\..+)?|\.netrc", re.I
)
# What a build makes: part of a module that is sent, not of a template that is copied.
_BUILT_FOLDERS = frozenset({"dist"})


def is_left_out(name: PurePosixPath) -> bool:
    """Whether a file, named relative to its module's folder, stays behind: by a folder on the way or its own name."""
    return (
        bool(LEFT_OUT_FOLDERS.intersection(name.parts))
        or name.name in _FILES
        or name.suffix == ".pyc"
        or bool(_SECRET_NAMES.fullmatch(name.name))
    )


def not_of_a_template(_folder: str, names: list[str]) -> set[str]:
    """What `shutil.copytree` is to ignore of a template: the above, and what was built in it."""
    return {
        name
        for name in names
        if name in _BUILT_FOLDERS or name.endswith(".tsbuildinfo") or is_left_out(PurePosixPath(name))
    }
