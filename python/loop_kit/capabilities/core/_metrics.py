"""Instruments, and what a grant lets through of their series."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from loop_kit import telemetry
from loop_kit.capabilities import _settings
from loop_kit.capabilities.core._attributes import Bounds
from loop_kit.capabilities.core._quota import Quota

__all__ = ["Counter", "Gauge", "Histogram", "Metrics"]


class Metrics:
    """The metrics of one component, and the key `metrics` of its grant.

    Args:
        grant: `instruments` at once (256), `series` of them all together (2000), `attributes` of one measurement
            (64), `text`, the bytes of one name, key or word (4096).

    Raises:
        ValueError: A key is not known, or its value does not do.
    """

    def __init__(self, grant: Any = None) -> None:
        known = ("instruments", "series", "attributes", "text")
        given = _settings.table("grant.metrics", grant, known)
        most = _settings.positive("grant.metrics.instruments", given.get("instruments"), 256)
        self.quota = Quota("instrument", "metrics.instruments", most)
        self.bounds = Bounds("grant.metrics", given)
        self._most = _settings.positive("grant.metrics.series", given.get("series"), 2000)
        self._series: set[int] = set()

    def measure(self, instrument: _Instrument, value: float, attributes: Iterable[Any]) -> None:
        """Tells a value, if there is one to tell and somebody to hear it."""
        if not telemetry.listens() or not math.isfinite(value) or (instrument.grows and value < 0):
            return
        said: dict[str, Any] = {}
        self.bounds.add(said, attributes)
        if not self._fits(instrument, said):
            said = {"otel.metric.overflow": True}
        telemetry.measured(
            telemetry.Measurement(
                instrument.kind, instrument.name, instrument.unit, instrument.description, value, said
            )
        )

    def _fits(self, instrument: _Instrument, said: dict[str, Any]) -> bool:
        # Python keys its hashes by chance, so that nobody can make two series one
        digest = hash((instrument.kind, instrument.name, frozenset((k, repr(v)) for k, v in said.items())))
        if digest not in self._series:
            if len(self._series) >= self._most:
                return False
            self._series.add(digest)
        return True


class _Instrument:
    kind: ClassVar[str]
    grows: ClassVar[bool] = False
    metrics: ClassVar[Metrics] = Metrics()

    def __init__(self, name: str, about: Any) -> None:
        self._held = self.metrics.quota.take()
        text = self.metrics.bounds.text
        self.name, self.unit, self.description = text(name), text(about.unit), text(about.description)


class Counter(_Instrument):
    """A sum that only grows."""

    kind = "counter"
    grows = True

    def add(self, amount: float, attributes: Iterable[Any]) -> None:
        """Adds to a series."""
        self.metrics.measure(self, amount, attributes)


class Gauge(_Instrument):
    """A value that comes and goes."""

    kind = "gauge"

    def set(self, value: float, attributes: Iterable[Any]) -> None:
        """What a series is now."""
        self.metrics.measure(self, value, attributes)


class Histogram(_Instrument):
    """How values are spread."""

    kind = "histogram"

    def record(self, value: float, attributes: Iterable[Any]) -> None:
        """Counts a value of a series in."""
        self.metrics.measure(self, value, attributes)
