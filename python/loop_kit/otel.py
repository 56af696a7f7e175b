"""Exports what components tell of themselves by OpenTelemetry's protocol: log records, measurements and spans.

    with otel.export("http://localhost:4318", service="site"):
        await app.call("run")

Needs the extra `loop-kit[otel]`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from loop_kit import telemetry
from loop_kit._invocation import current, traceparent_of
from loop_kit._records import without_fields

try:
    from opentelemetry import context as otel_context
    from opentelemetry import trace
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
except ImportError as e:
    raise ImportError(f"exporting needs the extra: pip install 'loop-kit[otel]' ({e})") from None

__all__ = ["Export", "export", "parent"]

_SCOPE = "loop_kit"
_SEVERITIES = (
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
)
_STATUSES = {"unset": StatusCode.UNSET, "ok": StatusCode.OK, "error": StatusCode.ERROR}


class Export(logging.Handler):
    """What is exported, until it is closed; a context manager. Made by `export`."""

    def __init__(self, endpoint: str | None, headers: Mapping[str, str] | None, resource: Resource) -> None:
        super().__init__()

        def to(signal: str) -> dict[str, Any]:
            # None: as the environment has it
            url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"
            return {"endpoint": url, "headers": None if headers is None else dict(headers)}

        self._resource = resource
        self._scope = InstrumentationScope(_SCOPE)
        self._spans = BatchSpanProcessor(OTLPSpanExporter(**to("traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(**to("metrics")))
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._meter = self._meters.get_meter(_SCOPE)
        self._instruments: dict[tuple[str, str], Any] = {}
        self._logs = LoggerProvider(resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**to("logs"))))
        self._logger = self._logs.get_logger(_SCOPE)
        self._listening = telemetry.listen(on_span=self._span, on_measurement=self._measurement)
        self._root = logging.getLogger("loop_kit.guest")
        self._root.addHandler(self)

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self) -> None:
        """Sends what has come in until now, and waits for it."""
        self._spans.force_flush()
        self._meters.force_flush()
        self._logs.force_flush()

    def close(self) -> None:
        """Sends what is left, and ends the export. Again is harmless."""
        if self in self._root.handlers:
            self._listening.close()
            self._root.removeHandler(self)
            for ending in (self._spans, self._meters, self._logs):
                ending.shutdown()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """A log record of a component's."""
        try:
            fields = dict(getattr(record, "fields", ()))
            number = next((n for least, n in _SEVERITIES if record.levelno >= least), SeverityNumber.TRACE)
            traced: bytes | None = getattr(record, "trace", None)
            self._logger.emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    context=_beneath(None if traced is None else traceparent_of(traced)),
                    severity_number=number,
                    severity_text=record.levelname,
                    body=without_fields(record.getMessage(), fields),
                    attributes={**fields, "log.target": record.name.removeprefix("loop_kit.guest.")},
                )
            )
        except Exception:
            self.handleError(record)

    def _span(self, span: telemetry.Span) -> None:
        made = ReadableSpan(
            name=span.name,
            context=_context(span.traceparent, span.tracestate),
            parent=None if span.parent is None else _context(span.parent, "", remote=True),
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[Event(e.name, dict(e.attributes), e.time) for e in span.events],
            kind=SpanKind[span.kind.upper()],
            status=Status(_STATUSES[span.status], span.reason or None),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )
        self._spans.on_end(made)

    def _measurement(self, measurement: telemetry.Measurement) -> None:
        key = measurement.instrument, measurement.name
        instrument = self._instruments.get(key)
        if instrument is None:
            create = getattr(self._meter, f"create_{measurement.instrument}")
            instrument = create(measurement.name, measurement.unit, measurement.description)
            self._instruments[key] = instrument
        tell = {"counter": "add", "gauge": "set", "histogram": "record"}[measurement.instrument]
        getattr(instrument, tell)(measurement.value, dict(measurement.attributes))


def export(
    endpoint: str | None = None,
    *,
    service: str | None = None,
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Export:
    """Exports log records, measurements and spans by OTLP over HTTP, from now on until it is closed.

    Args:
        endpoint: Of the collector: `http://HOST:4318`. None: as `OTEL_EXPORTER_OTLP_ENDPOINT` and its like say.
        service: What this program is called; None: as `OTEL_SERVICE_NAME` says.
        headers: Sent with each request, such as a key; None: as `OTEL_EXPORTER_OTLP_HEADERS` says.
        attributes: More about this program.
    """
    said: dict[str, str] = dict(attributes or {})
    if service is not None:
        said["service.name"] = service
    return Export(endpoint, headers, Resource.create(said))


def parent() -> otel_context.Context:
    """The span that the running code belongs to, for OpenTelemetry's own tracers: `start_span(…, context=parent())`."""
    return _beneath(current())


def _beneath(traceparent: str | None) -> otel_context.Context:
    if traceparent is None:
        return otel_context.Context()
    return trace.set_span_in_context(
        trace.NonRecordingSpan(_context(traceparent, "")), otel_context.Context()
    )


def _context(traceparent: str, tracestate: str, *, remote: bool = False) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    state = TraceState.from_header([tracestate]) if tracestate else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(int(flags, 16)), state)
