"""What components tell of themselves, collected for a test."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from loop_kit import telemetry

__all__ = ["Collected", "collect"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What came in, in its order.

    Attributes:
        spans: Those that ended.
        measurements: Values of instruments.
        logs: Records of components, with `fields` and `trace`.
    """

    spans: list[telemetry.Span] = field(default_factory=list)
    measurements: list[telemetry.Measurement] = field(default_factory=list)
    logs: list[logging.LogRecord] = field(default_factory=list)

    def span(self, name: str) -> telemetry.Span:
        """The one span of this name.

        Raises:
            LookupError: There is none, or there are several.
        """
        found = [span for span in self.spans if span.name == name]
        if len(found) != 1:
            raise LookupError(f"{len(found)} spans {name!r} among {[span.name for span in self.spans]}")
        return found[0]

    def total(self, name: str) -> float:
        """The sum of an instrument's values."""
        return sum(each.value for each in self.measurements if each.name == name)


class _Keep(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@contextlib.contextmanager
def collect() -> Iterator[Collected]:
    """Collects spans, measurements and log records of components, of every level, while it lasts."""
    made = Collected()
    logger = logging.getLogger("loop_kit.guest")
    level, keep = logger.level, _Keep(made.logs)
    logger.addHandler(keep)
    logger.setLevel(5)
    try:
        with telemetry.listen(on_span=made.spans.append, on_measurement=made.measurements.append):
            yield made
    finally:
        logger.removeHandler(keep)
        logger.setLevel(level)
