"""What the component that serves the page is given: the files, and what components measured."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib import resources

from loop_kit import telemetry
from loop_kit.telemetry import Listening, Measurement

__all__ = ["Site"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Attributes make series: whoever puts an id into one makes them without end.
_MOST_SERIES = 1_000


@dataclass(slots=True)
class _File:
    path: str
    content_type: str
    body: bytes


@dataclass(slots=True)
class _Series:
    name: str
    instrument: str
    unit: str
    description: str
    attributes: list[tuple[str, str]]
    count: int
    sum: float
    last: float
    min: float
    max: float


class Site:
    """Provides `loop:devserver-page/site`."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], _Series] = {}
        self._lock = threading.Lock()

    def files(self) -> list[_File]:
        """All files of the page, as they are now."""
        folder = resources.files(__package__) / "files"
        return [
            _File(f"/{file.name}", _TYPES[file.name.rpartition(".")[2]], file.read_bytes())
            for file in folder.iterdir()
        ]

    def measured(self) -> list[_Series]:
        """The series of all instruments, since `listening` began."""
        with self._lock:
            return [*self._series.values()]

    def listening(self) -> Listening:
        """Has measurements of components counted in, until it is closed."""
        return telemetry.listen(on_measurement=self._count)

    def _count(self, told: Measurement) -> None:
        attributes = tuple(sorted((key, str(value)) for key, value in told.attributes.items()))
        with self._lock:
            series = self._series.get((told.name, attributes))
            if series is None:
                if len(self._series) >= _MOST_SERIES:
                    return
                series = self._series[told.name, attributes] = _Series(
                    told.name,
                    told.instrument,
                    told.unit,
                    told.description,
                    [*attributes],
                    0,
                    0.0,
                    told.value,
                    told.value,
                    told.value,
                )
            series.count += 1
            series.sum += told.value
            series.last = told.value
            series.min = min(series.min, told.value)
            series.max = max(series.max, told.value)
