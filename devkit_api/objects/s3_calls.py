"""Calls to S3 that may fail for a moment: retried a few times, bounded in time, and answered with a catalogue error."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as EndpointError
from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from devkit_api.errors import ObjectStoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 4
# No new attempt after so many seconds: the caller waits as well.
TOTAL_SECONDS = 20.0
ATTEMPT_SECONDS = 10.0
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
_REPLACED = frozenset({"412", "PreconditionFailed", "NoSuchVersion"})
_REFUSED = frozenset({"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})

_PASSING = (HTTPClientError, EndpointError, aiohttp.ClientError, ConnectionError, TimeoutError)


class TransferFailed(Exception):
    """A put or get of bytes was answered with this status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(str(status))


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, done again after what may pass: no connection, no answer in time, 5xx, 429.

    Raises `ObjectStoreUnavailable` when it does not pass; a `ClientError` that says something is missing, or is
    another one by now, stays.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(0.2, max=2),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(TOTAL_SECONDS),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                return await work()
    except (ClientError, BotoCoreError, aiohttp.ClientError, TransferFailed, OSError, TimeoutError) as exc:
        if is_missing(exc) or _is_replaced(exc):
            raise
        raise unavailable(exc) from exc
    raise AssertionError("tenacity raises or returns")  # pragma: no cover


def unavailable(exc: Exception) -> ObjectStoreUnavailable:
    """The catalogue error for what S3 did; nothing of its answer but the kind."""
    return ObjectStoreUnavailable(reason=_reason(exc), headers={"Retry-After": "2"})


def contradicted() -> ObjectStoreUnavailable:
    """The catalogue error for answers that cannot all be true: following them might never end."""
    return ObjectStoreUnavailable(reason="its answers contradict each other", headers={"Retry-After": "2"})


def is_missing(exc: BaseException) -> bool:
    """Whether S3 says that there is no such object."""
    return isinstance(exc, ClientError) and _code(exc) in _MISSING


def _is_replaced(exc: BaseException) -> bool:
    """Whether S3 says that the object is no longer the one that was asked for."""
    return isinstance(exc, ClientError) and _code(exc) in _REPLACED


def _may_pass(exc: BaseException) -> bool:
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _passes(int(status)) or _code(exc) in {"SlowDown", "RequestTimeout"}
    if isinstance(exc, TransferFailed):
        return _passes(exc.status)
    return isinstance(exc, _PASSING)


def _passes(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _code(exc: ClientError) -> str:
    error: dict[str, Any] = dict(exc.response.get("Error", {}))
    return str(error.get("Code", ""))


def _reason(exc: Exception) -> str:
    if isinstance(exc, ClientError):
        return "it refuses the credentials" if _code(exc) in _REFUSED else "it answered with an error"
    if isinstance(exc, TransferFailed):
        refused = exc.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        return "it refuses the credentials" if refused else "it answered with an error"
    return "it does not answer"
