"""What is measured: by components, as they tell by `loop:core/metrics`, and of the processes of the workspace."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from loop_kit import telemetry
from loop_kit.telemetry import Listening, Measurement

__all__ = ["Measured", "of_host", "processes"]

SERIES = 1_000
"""Series of all instruments. Attributes make them: whoever puts an id into one makes them without end."""
OF_ONE = 200
"""Series of one instrument; what comes for more is one series, by the attribute `otel.metric.overflow`."""
ATTRIBUTES, LONGEST = 16, 256
"""Attributes of a series that are told, and characters of each of their words."""
BUCKETS = 64
"""Buckets of one histogram; the lowest are one where there would be more."""
_STEPS = 4
"""Buckets for each doubling: their bounds are within a tenth of a value in them."""

_NONE = -10_000
"""Of what is not above 0, and lies below any other."""

_OVERFLOW = (("otel.metric.overflow", "true"),)

Key = tuple[str, str, tuple[tuple[str, str], ...]]


def _bound(step: int) -> float:
    if step == _NONE:
        return 0.0
    return 2.0 ** (step / _STEPS) if step < _STEPS * sys.float_info.max_exp else sys.float_info.max


class _Series:
    """One series, summed up."""

    __slots__ = ("count", "description", "key", "last", "max", "min", "steps", "sum", "unit")

    def __init__(self, key: Key, unit: str, description: str) -> None:
        self.key, self.unit, self.description = key, unit, description
        self.count, self.sum, self.last = 0, 0.0, 0.0
        self.min, self.max = math.inf, -math.inf
        self.steps: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value
        self.last = value
        self.min, self.max = min(self.min, value), max(self.max, value)
        if self.key[1] == "histogram":
            step = math.ceil(_STEPS * math.log2(value)) if value > 0 else _NONE
            self.steps[step] = self.steps.get(step, 0) + 1
            if len(self.steps) > BUCKETS:
                lowest, next_ = sorted(self.steps)[:2]
                self.steps[next_] += self.steps.pop(lowest)

    def told(self) -> dict[str, Any]:
        name, instrument, attributes = self.key
        buckets = [(_bound(step), n) for step, n in sorted(self.steps.items())]
        return {
            "origin": "component", "name": name, "instrument": instrument, "unit": self.unit,
            "description": self.description, "attributes": [*attributes], "count": self.count, "sum": self.sum,
            "last": self.last, "min": self.min, "max": self.max, "buckets": buckets,
        }  # fmt: skip


class Measured:
    """Sums up what components measure, from when it is first asked for; from any thread."""

    def __init__(self) -> None:
        self._series: dict[Key, _Series] = {}
        self._of: dict[tuple[str, str], int] = {}
        self._lost = 0
        self._lock = threading.Lock()
        self._listening: Listening | None = None

    def begin(self) -> None:
        """Counts from now on. Again is harmless."""
        if self._listening is None:
            self._listening = telemetry.listen(on_measurement=self._count)

    def close(self) -> None:
        """Counts no longer."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """All series, and how many values were of none since there is no room."""
        self.begin()
        with self._lock:
            return [series.told() for series in self._series.values()], self._lost

    def _count(self, told: Measurement) -> None:
        if not math.isfinite(told.value):
            return
        pairs = sorted(told.attributes.items())[:ATTRIBUTES]
        attributes = tuple((key[:LONGEST], str(value)[:LONGEST]) for key, value in pairs)
        key = (told.name[:LONGEST], told.instrument, attributes)
        with self._lock:
            series = self._series.get(key) or self._room(key, told)
            if series is None:
                self._lost += 1
            else:
                series.add(told.value)

    def _room(self, key: Key, told: Measurement) -> _Series | None:
        of = key[:2]
        if self._of.get(of, 0) >= OF_ONE:
            key = (*of, _OVERFLOW)
            if key in self._series:
                return self._series[key]
        elif len(self._series) >= SERIES:
            return None
        made = self._series[key] = _Series(key, told.unit[:LONGEST], told.description[:LONGEST])
        self._of[of] = self._of.get(of, 0) + 1
        return made


def processes(pids: Iterable[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """What the system says of processes: CPU time since they began, and memory that is resident.

    Args:
        pids: Each with the member that it is, or "" for the host.
    """
    for member, pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
        except (OSError, IndexError):
            continue  # it has ended, or this system has no /proc
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        attributes = [("member", member)] if member else []
        memory = float(int(pages) * os.sysconf("SC_PAGE_SIZE"))
        yield of_host("process.cpu.time", "counter", "s", "CPU time", seconds, attributes)
        yield of_host("process.memory.usage", "gauge", "By", "Resident memory", memory, attributes)


def of_host(
    name: str, instrument: str, unit: str, description: str, value: float, attributes: list[tuple[str, str]]
) -> dict[str, Any]:
    """A series of one value, as the host measures it."""
    return {
        "origin": "host", "name": name, "instrument": instrument, "unit": unit, "description": description,
        "attributes": attributes, "count": 1, "sum": value, "last": value, "min": value, "max": value, "buckets": [],
    }  # fmt: skip
