"""What components and providers tell of themselves: spans and measurements, for whoever listens.

    with telemetry.listen(on_span=print, on_measurement=print):
        await app.call("run")

`loop_kit.otel` listens in this way and exports by OTLP. Log records go to `logging`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loop_kit import _core
from loop_kit._invocation import current, read_traceparent, traced, traceparent_of

__all__ = ["Event", "Listening", "Measurement", "Span", "SpanHandle", "exporting", "listen", "span"]

Value = str | int | float | bool
Kind = Literal["internal", "server", "client", "producer", "consumer"]

KINDS: tuple[Kind, ...] = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of an instrument.

    Attributes:
        instrument: `counter`, `gauge` or `histogram`.
        name: Of the instrument.
        unit: As UCUM has it, or "".
        description: For people, or "".
        value: What was added, set or counted in.
        attributes: Which series it belongs to.
    """

    instrument: str
    name: str
    unit: str
    description: str
    value: float
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a span.

    Attributes:
        name: What.
        time: When, in nanoseconds since 1970.
        attributes: What is told about it.
    """

    name: str
    time: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    """A span that is over.

    Attributes:
        name: What was done.
        kind: `internal`, `server`, `client`, `producer` or `consumer`.
        traceparent: The span itself, as the W3C's header of this name has it.
        tracestate: The header of this name, or "".
        parent: The `traceparent` of the span above, or None.
        start: When it began, in nanoseconds since 1970.
        end: When it ended, likewise.
        attributes: What is told about it.
        events: What happened meanwhile.
        status: `unset`, `ok` or `error`.
        reason: Why it failed, or "".
        dropped: Attributes and events that a grant had no room for.
    """

    name: str
    kind: Kind
    traceparent: str
    tracestate: str
    parent: str | None
    start: int
    end: int
    attributes: Mapping[str, Value]
    events: tuple[Event, ...]
    status: str
    reason: str
    dropped: int

    @property
    def trace_id(self) -> str:
        """The trace that it is part of: 32 hex digits."""
        return self.traceparent.split("-")[1]

    @property
    def span_id(self) -> str:
        """Its own 16 hex digits."""
        return self.traceparent.split("-")[2]

    @property
    def parent_id(self) -> str | None:
        """Those of the span above."""
        return None if self.parent is None else self.parent.split("-")[2]


@dataclass(eq=False)
class Listening:
    """Whoever listens, until it is closed; a context manager."""

    on_span: Callable[[Span], object] | None
    on_measurement: Callable[[Measurement], object] | None

    def close(self) -> None:
        """Ends it. Again is harmless."""
        with _LOCK:
            if self in _LISTENING:
                _LISTENING.remove(self)
            _tell_core()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_LISTENING: list[Listening] = []
_LOCK = threading.Lock()


def listen(
    *,
    on_span: Callable[[Span], object] | None = None,
    on_measurement: Callable[[Measurement], object] | None = None,
) -> Listening:
    """Has spans that end and measurements told to functions, which must not block.

    They are called on whatever thread runs the component; what they raise is printed and harms nobody.

    Args:
        on_span: Gets each span once, when it is over.
        on_measurement: Gets each value of an instrument.
    """
    listening = Listening(on_span, on_measurement)
    with _LOCK:
        _LISTENING.append(listening)
        _tell_core()
    return listening


def exporting() -> contextlib.AbstractContextManager[object]:
    """Exports by `loop_kit.otel` where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector, while it lasts; else nothing."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return contextlib.nullcontext()
    try:
        from loop_kit import otel
    except ImportError as e:
        logging.getLogger("loop_kit").warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", e)
        return contextlib.nullcontext()
    return otel.export()


def listens() -> bool:
    """Whether anybody listens."""
    return bool(_LISTENING)


def _tell_core() -> None:
    if _LISTENING:
        _core.listen(_measured, _ended)
    else:
        _core.listen(None, None)


def _measured(*values: Any) -> None:
    measured(Measurement(*values))


def measured(measurement: Measurement) -> None:
    """Tells a measurement to all who listen."""
    for listening in [*_LISTENING]:
        if listening.on_measurement is not None:
            _safely(listening.on_measurement, measurement)


def _ended(
    name: str,
    kind: int,
    context: bytes,
    state: str,
    parent: bytes | None,
    start: int,
    end: int,
    attributes: dict[str, Value],
    events: list[tuple[str, int, dict[str, Value]]],
    status: int,
    reason: str,
    dropped: int,
) -> None:
    made = Span(
        name,
        KINDS[kind],
        traceparent_of(context),
        state,
        None if parent is None else traceparent_of(parent),
        start,
        end,
        attributes,
        tuple(Event(*event) for event in events),
        _STATUSES[status],
        reason,
        dropped,
    )
    ended(made)


def ended(span: Span) -> None:
    """Tells a span to all who listen."""
    for listening in [*_LISTENING]:
        if listening.on_span is not None:
            _safely(listening.on_span, span)


def _safely(f: Callable[[Any], object], value: Any) -> None:
    try:
        f(value)
    except Exception:
        # What a listener raises is none of the component's matter; it is told as errors of log handlers are.
        traceback.print_exc()


@dataclass(eq=False)
class SpanHandle:
    """A span that lasts.

    Attributes:
        context: Trace id, span id and flags: 25 bytes.
        parent: Those of the span above, or None.
    """

    name: str
    kind: Kind
    context: bytes
    parent: bytes | None
    tracestate: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    status: str = "unset"
    reason: str = ""
    dropped: int = 0
    start: int = field(default_factory=time.time_ns)
    _began: int = field(default_factory=time.monotonic_ns)
    _over: bool = False

    @classmethod
    def begin(
        cls,
        name: str,
        kind: Kind,
        parent: bytes | None,
        attributes: Mapping[str, Value],
        tracestate: str = "",
    ) -> SpanHandle:
        """A span below another, or the first of a trace."""
        flags = parent[24:] if parent is not None else bytes([listens()])
        trace = parent[:16] if parent is not None else os.urandom(16)
        return cls(name, kind, trace + os.urandom(8) + flags, parent, tracestate, dict(attributes))

    @property
    def traceparent(self) -> str:
        """The span as the W3C's header of this name has it."""
        return traceparent_of(self.context)

    @property
    def lasts(self) -> bool:
        """Whether it has not ended."""
        return not self._over

    def set(self, **attributes: Value) -> None:
        """Adds attributes, in place of those with the same names."""
        self.attributes.update(attributes)

    def event(self, name: str, **attributes: Value) -> None:
        """Notes that something happened now."""
        self.events.append(Event(name, time.time_ns(), attributes))

    def fail(self, reason: str) -> None:
        """Says that it failed, and why."""
        self.status, self.reason = "error", reason

    def end(self) -> None:
        """Ends it now. Again is harmless."""
        if self._over:
            return
        self._over = True
        if not listens() or not self.context[24] & 1:
            return
        ended(
            Span(
                self.name,
                self.kind,
                self.traceparent,
                self.tracestate,
                None if self.parent is None else traceparent_of(self.parent),
                self.start,
                self.start + time.monotonic_ns() - self._began,
                dict(self.attributes),
                tuple(self.events),
                self.status,
                self.reason,
                self.dropped,
            )
        )


@contextlib.contextmanager
def span(name: str, kind: Kind = "internal", **attributes: Value) -> Iterator[SpanHandle]:
    """A span around what is done within, below that of the call that is being answered, or of what is around it.

    Calls made within, of components and of peers, belong to it. An exception ends it as failed.

    Args:
        name: What is done.
        kind: `internal`, `server`, `client`, `producer` or `consumer`.
        **attributes: What is told about it.
    """
    parent = current()
    made = SpanHandle.begin(name, kind, None if parent is None else read_traceparent(parent), attributes)
    with traced(made.traceparent):
        try:
            yield made
        except BaseException as e:
            made.fail(f"{type(e).__name__}: {e}")
            raise
        finally:
            made.end()
