"""The connection to the Dask scheduler: made again whenever it is lost, for as long as the devkit runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import distributed
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from devkit_api import __version__
from devkit_api.execution.cluster.summons import Summons, task_for

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_ASK_SECONDS = 5.0
_LOOK_EVERY = 1.0
_LONGEST_TEXT = 500
WITHOUT_TLS = (
    "without TLS a module with network can leave its isolation and become the worker's user (docs/security.md,"
    " Runs on a cluster)"
)
_NEEDED = f"hla-compass-devkit[dask] {__version__}"


class SchedulerGone(Exception):
    """There is no scheduler now."""


@attrs.frozen
class Cluster:
    """What the scheduler said of its workers. `slots`: runs they can execute at a time."""

    workers: int = 0
    slots: int = 0


def is_encrypted(address: str) -> bool:
    """Whether the scheduler lets in only who has a certificate."""
    return address.startswith(("tls://", "wss://"))


class Call:
    """A summons that was given to Dask."""

    def __init__(self, future: distributed.Future) -> None:
        self._future = future

    async def ended(self) -> str | None:
        """Why no worker can execute the run; None when one did, or when nothing is known. Never raises."""
        try:
            said = await self._future
        except (asyncio.CancelledError, concurrent.futures.CancelledError):  # Dask raises one for a task that is lost
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None
        except Exception as exc:
            return f"the cluster could not begin it; its workers need {_NEEDED} ({_text_of(exc)})"
        return str(said)[:_LONGEST_TEXT] if said is not None else None

    def forget(self) -> None:
        """Dask need not try it, or keep its end, any longer."""
        with suppress(Exception):  # the client may be closed by now
            self._future.release()


class Scheduler:
    """`address` as Dask writes it; with `resource`, each run takes one of that name at its worker."""

    def __init__(self, address: str, resource: str | None) -> None:
        self.address = address
        self.cluster = Cluster()
        self.on_change: Callable[[], None] = lambda: None
        self._resource = resource
        self._client: distributed.Client | None = None
        self._connected = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        _log_as_we_do()

    def open(self) -> None:
        """Connect in the background: a devkit starts without its scheduler as well."""
        self._keeping = asyncio.create_task(self._keep(), name="dask-scheduler")

    async def close(self) -> None:
        """Disconnect."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    @property
    def is_connected(self) -> bool:
        """Whether it was there a moment ago."""
        return self._connected.is_set()

    async def until_connected(self) -> None:
        """Wait for it."""
        await self._connected.wait()

    async def check(self) -> None:
        """Return when it answers. Raises `SchedulerGone`."""
        if self._client is None:
            raise SchedulerGone
        await self.look(self._client)

    def summon(self, summons: Summons, attempt: int) -> Call:
        """Have Dask find a worker. Raises `SchedulerGone`."""
        if self._client is None or self._client.status != "running":
            raise SchedulerGone
        resources = None if self._resource is None else {self._resource: 1}
        try:
            # `pure=False` and a key of its own: two equal runs are two runs.
            key = f"{summons.run_id}-{attempt}"
            return Call(self._client.submit(task_for(summons), key=key, pure=False, retries=0, resources=resources))
        except (OSError, RuntimeError) as exc:
            raise SchedulerGone from exc

    async def _keep(self) -> None:
        retrying = AsyncRetrying(
            wait=wait_random_exponential(0.5, max=5),
            retry=retry_if_exception_type(Exception),  # with half a TLS configuration, Dask raises a TypeError
            before_sleep=self._say_missing,
        )
        while True:
            client: distributed.Client = await retrying(self.connect)
            log.info("connected to the Dask scheduler", extra={"scheduler": self.address})
            if not is_encrypted(self.address):
                log.warning(WITHOUT_TLS, extra={"scheduler": self.address})
            try:
                await self._watch(client)
            except SchedulerGone:
                log.error("the Dask scheduler is gone", extra={"scheduler": self.address})
            except Exception:
                log.exception("the connection to the Dask scheduler is made anew")
            finally:
                self._client = None
                self._connected.clear()
                self._note(Cluster())
                await _close(client)

    async def connect(self) -> distributed.Client:
        """A new connection. Raises whatever Dask raises."""
        # Not the default client: modules and other parts of the process have no business with it.
        client = distributed.Client(
            self.address, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False, name="hla-compass-devkit"
        )
        try:
            return await client
        except BaseException:
            await _close(client)
            raise

    async def _watch(self, client: distributed.Client) -> None:
        while True:
            self._note(await self.look(client))
            self._client = client
            self._connected.set()
            self.on_change()
            await asyncio.sleep(_LOOK_EVERY)

    async def look(self, client: distributed.Client) -> Cluster:
        """What the scheduler says of its workers. Raises `SchedulerGone`."""
        if client.status != "running":
            raise SchedulerGone
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                slots = await self._slots(client)
        except (OSError, RuntimeError, TimeoutError) as exc:
            raise SchedulerGone from exc
        return Cluster(len(slots), sum(slots))

    async def _slots(self, client: distributed.Client) -> list[int]:
        """Of each worker."""
        if self._resource is None:
            return list((await client.scheduler.ncores()).values())
        workers = (await client.scheduler.identity(n_workers=-1))["workers"].values()
        return [int(worker.get("resources", {}).get(self._resource, 0)) for worker in workers]

    def _note(self, cluster: Cluster) -> None:
        if cluster != self.cluster:
            self.cluster = cluster
            log.info("workers of the cluster", extra={"workers": cluster.workers, "slots": cluster.slots})

    def _say_missing(self, state: Any) -> None:
        level = logging.WARNING if state.attempt_number == 1 else logging.DEBUG
        reason = _text_of(state.outcome.exception())
        extra = {"scheduler": self.address, "reason": reason}
        log.log(level, "the Dask scheduler cannot be reached; runs wait", extra=extra)


async def look_once(address: str, resource: str | None) -> Cluster:
    """What a scheduler says of its workers now. Raises `SchedulerGone`."""
    scheduler = Scheduler(address, resource)
    try:
        client = await scheduler.connect()
    except Exception as exc:
        raise SchedulerGone(_text_of(exc)) from exc
    try:
        return await scheduler.look(client)
    finally:
        await _close(client)


def _text_of(exc: BaseException | None) -> str:
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}"[:_LONGEST_TEXT]


async def _close(client: distributed.Client) -> None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            await client.close(timeout=2)
    except Exception:
        log.warning("the connection to the Dask scheduler could not be closed in order")


def _log_as_we_do() -> None:
    """Dask gives its loggers handlers of their own as it is imported, which would break up our lines.

    What it says of a connection we say ourselves, once; it says so with a traceback at every try.
    """
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.CRITICAL if name.startswith("distributed") else logging.WARNING)
