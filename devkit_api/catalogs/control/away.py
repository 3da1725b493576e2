"""Work that goes on once what it needs is there again: the database restarts, a disk is full, a bucket is away."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psycopg2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception_type,
    stop_never,
    wait_random_exponential,
)

from devkit_api.errors import Unavailable

log = logging.getLogger(__name__)

# What a database that restarts, or whose disk is full, answers.
AWAY = (Unavailable, psycopg2.OperationalError, psycopg2.InterfaceError)


def while_away(
    *also: type[Exception], most_seconds: float = 5, stop: Callable[[RetryCallState], bool] = stop_never
) -> AsyncRetrying:
    """Tries again while the database is away, or what raises one of `also`; at most `most_seconds` later each time."""
    return AsyncRetrying(
        retry=retry_if_exception_type((*AWAY, *also)),
        wait=wait_random_exponential(0.1, max=most_seconds),
        stop=stop,
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
