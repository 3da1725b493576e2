"""Writes that must not be given up: what follows them waits until the state takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception_type,
    stop_never,
    wait_exponential,
)

from devkit_api.state.store import StateError

log = logging.getLogger(__name__)


def until_stored(stop: Callable[[RetryCallState], bool] = stop_never) -> AsyncRetrying:
    """Tries again, at most 5 s later each time: a disk that is full now may not be in a moment.

    Raises the last `StateError` or `OSError` once `stop` says so; cancelling ends it at once.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type((StateError, OSError)),
        wait=wait_exponential(multiplier=0.1, max=5),
        stop=stop,
        before_sleep=before_sleep_log(log, logging.ERROR),
        reraise=True,
    )
