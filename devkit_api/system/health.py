"""Readiness and health: checks run together, each with a deadline, and are shared by callers for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import attrs
from tenacity import AsyncRetrying, stop_after_attempt, wait_random_exponential

Check = Callable[[], Awaitable[None]]

_DEADLINE = 2.0
_SHARED_FOR = 1.0
_TRIES = 3
_WAIT = wait_random_exponential(0.05, max=0.3)


@attrs.define
class Health:
    """Named checks. A check returns when its part is fine and raises when it is not; details are figures at hand."""

    checks: dict[str, Check] = attrs.Factory(dict)
    details: dict[str, Callable[[], Any]] = attrs.Factory(dict)
    started: bool = False
    stopping: bool = False
    lost: str | None = None  # why the state is another devkit's now
    _result: dict[str, str] = attrs.field(factory=dict, init=False)
    _checked_at: float = attrs.field(default=float("-inf"), init=False)
    _pending: asyncio.Task[dict[str, str]] | None = attrs.field(default=None, init=False)

    async def services(self) -> dict[str, str]:
        """Name -> `ok` or what is wrong, at most a second old."""
        if monotonic() - self._checked_at < _SHARED_FOR:
            return self._result
        if self._pending is None or self._pending.done():
            self._pending = asyncio.create_task(self._check_all())
        return await asyncio.shield(self._pending)

    async def missing(self) -> dict[str, str]:
        """What keeps the devkit from being ready; empty when nothing does."""
        if self.stopping:
            return {"server": "stopping"}
        if self.lost is not None:
            return {"state": self.lost}
        if not self.started:
            return {"server": "starting"}
        return {name: state for name, state in (await self.services()).items() if state != "ok"}

    async def _check_all(self) -> dict[str, str]:
        states = await asyncio.gather(*(self._check(check) for check in self.checks.values()))
        self._result = dict(zip(self.checks, states, strict=True))
        self._checked_at = monotonic()
        return self._result

    async def _check(self, check: Check) -> str:
        """A moment's failure is asked again within the deadline: one lost connection is no outage."""
        again = AsyncRetrying(stop=stop_after_attempt(_TRIES), wait=_WAIT, reraise=True)
        try:
            async with asyncio.timeout(_DEADLINE):
                await again(check)
        except TimeoutError:
            return "no answer in time"
        except Exception:
            return "unavailable"
        return "ok"


def ready_body(missing: dict[str, str], now: str) -> dict[str, Any]:
    """The answer of `/v1/system/ready`."""
    return {"status": "ready" if not missing else "not_ready", "missing": missing, "timestamp": now}
