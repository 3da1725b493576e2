"""The style sheet of the reference, under a name made of its content: whoever has it needs never ask again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "assets" / "reference.css"


@cache
def content() -> bytes:
    """The style sheet."""
    return _FILE.read_bytes()


@cache
def digest() -> str:
    """What names it."""
    return hashlib.sha256(content()).hexdigest()[:16]


def address() -> str:
    """Where the page finds it."""
    return f"/docs/reference-{digest()}.css"
