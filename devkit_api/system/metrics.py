"""Numbers for Prometheus: what was answered, what runs, what is used.

Requests are counted as they are answered; everything else is read when the page is asked for, from counts that are kept
in memory anyway. Labels are route templates and words of ours, so there are only so many series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import attrs
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from devkit_api import __version__
from devkit_api.database.pool import Pool

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PHASE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 14400)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PHASES = {
    "queue": "queueSeconds",
    "environment": "environmentSeconds",
    "launch": "launchSeconds",
    "import": "importSeconds",
    "execute": "executeSeconds",
    "store": "storeSeconds",
}


@attrs.frozen
class Sources:
    """Where numbers are read from: each gives the value of now."""

    runs: Callable[[], dict[str, int]]
    queued: Callable[[], int]
    executing: Callable[[], int]
    workers: Callable[[], int]
    modules: Callable[[], int]
    pools: Callable[[], Mapping[str, Pool]]
    cluster: Callable[[], tuple[bool, int]] | None = None  # whether its scheduler is there, and how many workers


class Metrics:
    """The registry of one application; nothing is shared between two applications in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = _Answers()
        self.registry.register(self._answers)
        self._refused = Counter(
            "devkit_rate_limit_refusals", "Requests refused with 429, by class.", ["kind"], registry=self.registry
        )
        self._ended = Counter("devkit_runs_ended", "Runs that ended, by state.", ["status"], registry=self.registry)
        self._phases = Histogram(
            "devkit_run_phase_seconds", "Time of a run in a phase.", ["phase"],
            buckets=_PHASE_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._objects = Counter(
            "devkit_object_store_bytes", "Bytes of saved files, by direction.", ["direction"], registry=self.registry
        )
        info = Gauge("devkit_info", "The version of this devkit.", ["version"], registry=self.registry)
        info.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

    def read_from(self, sources: Sources) -> None:
        """Show what `sources` tell as well."""
        self.registry.register(_Now(sources))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answers.add(method, route, status, seconds)

    def refused(self, kind: str) -> None:
        """Count one refusal of a rate limit."""
        self._refused.labels(kind).inc()

    def ended(self, status: str, measured: dict[str, Any]) -> None:
        """Count the end of a run; `measured` holds seconds by the names of `PHASES`."""
        self._ended.labels(status).inc()
        for phase, name in PHASES.items():
            if isinstance(measured.get(name), int | float):
                self._phases.labels(phase).observe(measured[name])

    def moved(self, direction: str, size: int) -> None:
        """Count bytes of a saved file: `in` or `out`."""
        self._objects.labels(direction).inc(size)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


class _Answers(Collector):
    """Answers by method, route and status, and how long they took.

    Counted on the one thread of the event loop, so without the locks of the library's own counters: they are for every
    request, and cost more than most handlers.
    """

    def __init__(self) -> None:
        # The number of answers per bucket of `_REQUEST_SECONDS`, the slower ones, and the sum of all seconds.
        self._series: dict[tuple[str, str, int], tuple[list[int], list[float]]] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answer."""
        known = self._series.get((method, route, status))
        if known is None:
            shown = method if method in _METHODS else "other"
            empty = ([0] * (len(_REQUEST_SECONDS) + 1), [0.0])
            known = self._series.setdefault((shown, route, status), empty)
        known[0][bisect_left(_REQUEST_SECONDS, seconds)] += 1
        known[1][0] += seconds

    def describe(self) -> list[Metric]:
        """The names, so that no other metric takes them."""
        return [_requests(), _request_seconds()]

    def collect(self) -> Iterator[Metric]:
        """Both families; the histogram knows no status."""
        requests, seconds = _requests(), _request_seconds()
        merged: dict[tuple[str, str], tuple[list[int], float]] = {}
        for (method, route, status), (counts, total) in self._series.items():
            requests.add_metric([method, route, str(status)], sum(counts))
            before, sum_before = merged.get((method, route), ([0] * len(counts), 0.0))
            merged[method, route] = ([a + b for a, b in zip(before, counts, strict=True)], sum_before + total[0])
        for labels, (counts, total_seconds) in merged.items():
            bounds = [*map(str, map(float, _REQUEST_SECONDS)), "+Inf"]
            seconds.add_metric(list(labels), list(zip(bounds, accumulate(counts), strict=True)), total_seconds)
        yield requests
        yield seconds


def _requests() -> CounterMetricFamily:
    return CounterMetricFamily("devkit_http_requests", "Answered requests.", labels=["method", "route", "status"])


def _request_seconds() -> HistogramMetricFamily:
    text = "Time to answer, streams included."
    return HistogramMetricFamily("devkit_http_request_seconds", text, labels=["method", "route"])


class _Now(Collector):
    """Reads the sources at each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> list[Metric]:
        """Nothing: a registry that knows no names in advance does not scrape at start."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Values of now."""
        sources = self._sources
        runs = GaugeMetricFamily("devkit_runs", "Runs that are kept, by state.", labels=["status"])
        for status, count in sources.runs().items():
            runs.add_metric([status], count)
        yield runs
        yield GaugeMetricFamily("devkit_run_queue_length", "Runs that wait for a worker.", sources.queued())
        yield GaugeMetricFamily("devkit_run_workers_busy", "Workers that execute a run.", sources.executing())
        yield GaugeMetricFamily("devkit_run_workers", "Runs that may execute at a time.", sources.workers())
        if sources.cluster is not None:
            connected, workers = sources.cluster()
            yield GaugeMetricFamily("devkit_cluster_connected", "Whether the Dask scheduler answers.", connected)
            yield GaugeMetricFamily("devkit_cluster_workers", "Workers of the Dask cluster.", workers)
        yield GaugeMetricFamily("devkit_modules", "Registered modules.", sources.modules())
        used = GaugeMetricFamily("devkit_database_connections_in_use", "Connections that work now.", labels=["pool"])
        most = GaugeMetricFamily("devkit_database_connections_limit", "Connections there may be.", labels=["pool"])
        opened = CounterMetricFamily("devkit_database_connections_opened", "Connections made.", labels=["pool"])
        taken = CounterMetricFamily("devkit_database_connections_taken", "Times one was used.", labels=["pool"])
        families: tuple[GaugeMetricFamily | CounterMetricFamily, ...] = (used, most, opened, taken)
        for name, pool in sources.pools().items():
            counted = (pool.in_use, pool.size, pool.counts.connected, pool.counts.acquired)
            for family, value in zip(families, counted, strict=True):
                family.add_metric([name], value)
        yield from families
