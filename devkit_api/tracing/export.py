"""Spans, and their way to a collector. Imported only when traces are on; needs the extra `otel`.

What the standard variables of OpenTelemetry say of headers, timeouts, batches, sampling and resource attributes is read
by its own SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from devkit_api import __version__
from devkit_api.runs.models import Run, RunStatus
from devkit_api.tracing import current_traceparent, span_id

# Phases of a run in the order in which they follow each other, and where their seconds are (`Run.metrics`).
_PHASES = {
    "queue": "queueSeconds",
    "environment": "environmentSeconds",
    "launch": "launchSeconds",
    "execute": "executeSeconds",
    "store": "storeSeconds",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_chosen: ContextVar[int | None] = ContextVar("chosen_span_id", default=None)


class _Ids(RandomIdGenerator):
    """Random, but for spans whose id was promised before."""

    def generate_span_id(self) -> int:
        """An id."""
        return _chosen.get() or super().generate_span_id()


class Tracing:
    """The spans of one application."""

    def __init__(self, exporter: SpanExporter) -> None:
        ours = Resource({"service.name": "hla-compass-devkit", "service.version": __version__})
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("devkit_api", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of a request, below the caller's when it sends a `traceparent`; what is started inside joins it."""
        shown = method if method in _METHODS else "_OTHER"
        sent = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        span = self._tracer.start_span(
            f"{shown if shown != '_OTHER' else 'HTTP'} {route}".rstrip(),
            context=self._propagator.extract(sent, context=Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": shown, **({"http.route": route} if route else {})},
        )
        token = current_traceparent.set(self._traceparent(span))
        try:
            yield span
        finally:
            current_traceparent.reset(token)
            span.end()

    def ended(self, run: Run) -> None:
        """Write the spans of a run that has ended: the whole of it, and its phases."""
        if run.traceparent is None:
            return
        parent = self._propagator.extract({"traceparent": run.traceparent}, context=Context())
        begin, end = _time(run.created_at), _time(run.finished_at or run.created_at)
        whole = self._start(run, "run", f"run {run.module_id}", parent, begin)
        whole.set_attributes(_attributes(run))
        if run.status is not RunStatus.COMPLETED:
            whole.set_status(Status(StatusCode.ERROR, run.error.code if run.error else run.status.value))
        below, moment = set_span_in_context(whole, Context()), begin
        for phase, name in _PHASES.items():
            seconds = run.metrics.get(name)
            if isinstance(seconds, int | float):
                span = self._start(run, phase, phase, below, moment)
                moment += timedelta(seconds=seconds)
                span.end(_nanoseconds(moment))
        whole.end(_nanoseconds(max(end, moment)))

    def close(self, within: float) -> bool:
        """Send what has not been sent yet; whether that took less than `within` seconds. It blocks."""
        last = Thread(target=self._provider.shutdown, daemon=True)  # a collector that hangs must not hold the devkit
        last.start()
        last.join(within)
        return not last.is_alive()

    def _start(self, run: Run, part: str, name: str, context: Context, begin: datetime) -> Span:
        token = _chosen.set(span_id(run.run_id, part))
        try:
            return self._tracer.start_span(name, context=context, start_time=_nanoseconds(begin))
        finally:
            _chosen.reset(token)

    def _traceparent(self, span: Span) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=set_span_in_context(span, Context()))
        return carrier.get("traceparent")


def to_collector(endpoint: str) -> Tracing:
    """Traces sent to the collector at this address, as OTLP over HTTP."""
    return Tracing(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))


def _attributes(run: Run) -> dict[str, Any]:
    return {
        "devkit.run.id": run.run_id,
        "devkit.run.mode": run.mode,
        "devkit.run.status": run.status.value,
        "devkit.module.id": run.module_id,
        "devkit.module.version": run.module_version,
        "devkit.correlation_id": run.correlation_id,
        **({"devkit.run.warm": run.metrics["warm"]} if isinstance(run.metrics.get("warm"), bool) else {}),
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
