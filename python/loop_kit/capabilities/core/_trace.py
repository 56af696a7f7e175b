"""Spans, and the context that calls carry."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar

from loop_kit import _core
from loop_kit._invocation import current, read_traceparent
from loop_kit.capabilities import _settings
from loop_kit.capabilities.core._attributes import Bounds
from loop_kit.capabilities.core._quota import Quota
from loop_kit.telemetry import KINDS, Event, SpanHandle

__all__ = ["Span", "Tracer"]


class Tracer:
    """What the spans of one component share, and the key `trace` of its grant.

    Args:
        grant: `spans` at once (256), `events` of one span (128), `attributes` of one span or event (64), `text`, the
            bytes of one name, key or word (4096).

    Raises:
        ValueError: A key is not known, or its value does not do.
    """

    def __init__(self, grant: Any = None) -> None:
        given = _settings.table("grant.trace", grant, ("spans", "events", "attributes", "text"))
        most = _settings.positive("grant.trace.spans", given.get("spans"), 256)
        self.quota = Quota("span", "trace.spans", most)
        self.bounds = Bounds("grant.trace", given)
        self.events = _settings.positive("grant.trace.events", given.get("events"), 128)


class Span:
    """A piece of work, which is the current span of the call in which it began until it ends."""

    tracer: ClassVar[Tracer] = Tracer()

    def __init__(self, name: str, kind: Enum, attributes: Iterable[Any]) -> None:
        parent = current()
        self._begin(None if parent is None else read_traceparent(parent), "", name, kind, attributes)

    @classmethod
    def beneath(cls, parent: Any, name: str, kind: Enum, attributes: Iterable[Any]) -> Span:
        """One below a span that is known from elsewhere."""
        above = None
        with contextlib.suppress(ValueError):
            above = read_traceparent(parent.traceparent)
        made = cls.__new__(cls)
        state = "" if above is None else cls.tracer.bounds.text(parent.tracestate)
        made._begin(above, state, name, kind, attributes)
        return made

    def _begin(
        self, parent: bytes | None, state: str, name: str, kind: Enum, attributes: Iterable[Any]
    ) -> None:
        self._held = self.tracer.quota.take()
        bounds = self.tracer.bounds
        self._span = SpanHandle.begin(bounds.text(name), KINDS[kind.value], parent, {}, state)
        self._span.dropped = bounds.add(self._span.attributes, attributes)
        self._entered = _core.enter_span(self._span.context)

    def context(self) -> Mapping[str, str]:
        """The span itself, to be told to others."""
        return {"traceparent": self._span.traceparent, "tracestate": self._span.tracestate}

    def set_attributes(self, attributes: Iterable[Any]) -> None:
        """Adds attributes, in place of those with the same keys."""
        if self._span.lasts:
            self._span.dropped += self.tracer.bounds.add(self._span.attributes, attributes)

    def add_event(self, name: str, attributes: Iterable[Any]) -> None:
        """Notes that something happened now."""
        if not self._span.lasts:
            return
        if len(self._span.events) >= self.tracer.events:
            self._span.dropped += 1
            return
        said: dict[str, Any] = {}
        self._span.dropped += self.tracer.bounds.add(said, attributes)
        self._span.events.append(Event(self.tracer.bounds.text(name), time.time_ns(), said))

    def set_status(self, status: Any) -> None:
        """Says how it went."""
        if self._span.lasts:
            self._span.status = status.case
            self._span.reason = self.tracer.bounds.text(status.value) if status.case == "error" else ""

    def end(self) -> None:
        """Ends it now. Again is harmless."""
        self._span.end()
        if self._entered is not None:
            self._entered.leave()

    def __del__(self) -> None:
        if hasattr(self, "_entered"):  # it may have been one too many
            self.end()
