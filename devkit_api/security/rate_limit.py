"""Token buckets: so many requests per caller and class, with memory that stays bounded whoever calls."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

import attrs

from devkit_api.settings import RateLimit

MAX_CALLERS = 10_000


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


@attrs.frozen
class Allowance:
    """The answer to one request: whether it may pass, tokens left, and seconds until the next one."""

    allowed: bool
    remaining: int
    retry_after: int


class TokenBuckets:
    """Buckets of one class of requests. The least recently seen caller is forgotten first."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = monotonic) -> None:
        self.limit = limit
        self._rate = limit.count / limit.period
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> Allowance:
        """Take one token of `caller`'s bucket."""
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self.limit.burst, now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
            bucket.tokens = min(self.limit.burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
            bucket.filled_at = now
        if bucket.tokens < 1:
            return Allowance(False, 0, max(1, math.ceil((1 - bucket.tokens) / self._rate)))
        bucket.tokens -= 1
        return Allowance(True, int(bucket.tokens), 0)


class RateLimiter:
    """The classes of requests: `read`, `write`, `run`, `login`, and `refused` for wrong credentials."""

    def __init__(self, limits: dict[str, RateLimit | None]) -> None:
        self._classes = {name: TokenBuckets(limit) for name, limit in limits.items() if limit is not None}

    def take(self, kind: str, caller: str) -> tuple[Allowance, RateLimit] | None:
        """What the class says of one more request; None when the class is not limited."""
        buckets = self._classes.get(kind)
        return None if buckets is None else (buckets.take(caller), buckets.limit)
