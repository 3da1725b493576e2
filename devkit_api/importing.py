"""Imports that are to stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """What is imported in here is for the life of the process: the collector looks at it neither now, while it grows,
    nor later, nor at the end. That is a quarter of the time of a start and a stop.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
