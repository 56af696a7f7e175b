"""What is measured: summed up, within bounds, whatever components tell."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loop_kit import telemetry
from loop_kit.dev._measured import ATTRIBUTES, BUCKETS, LONGEST, OF_ONE, SERIES, Measured, processes


@pytest.fixture
def counted() -> Iterator[Measured]:
    made = Measured()
    made.begin()
    yield made
    made.close()


def tell(instrument: str, name: str, value: float, unit: str = "1", **attributes: Any) -> None:
    telemetry.measured(telemetry.Measurement(instrument, name, unit, "", value, attributes))


def test_values_are_summed_up_by_series(counted: Measured) -> None:
    for value in (3.0, 5.0):
        tell("counter", "orders", value, shelf="a")
    tell("counter", "orders", 1.0, shelf="b")
    [a, b], lost = counted.read()
    expected: dict[str, Any] = {
        "origin": "component",
        "name": "orders",
        "instrument": "counter",
        "unit": "1",
        "description": "",
    }
    expected |= {
        "attributes": [("shelf", "a")],
        "count": 2,
        "sum": 8.0,
        "last": 5.0,
        "min": 3.0,
        "max": 5.0,
        "buckets": [],
    }
    assert (a, lost) == (expected, 0)
    assert (b["attributes"], b["sum"]) == ([("shelf", "b")], 1.0)


def test_instruments_of_one_name_are_told_apart(counted: Measured) -> None:
    tell("counter", "x", 1.0)
    tell("gauge", "x", 2.0)
    series, _ = counted.read()
    assert [(each["instrument"], each["sum"]) for each in series] == [("counter", 1.0), ("gauge", 2.0)]


def test_attributes_without_end_are_one_series(counted: Measured) -> None:
    for number in range(OF_ONE + 300):
        tell("counter", "requests", 1.0, id=number)
    tell("counter", "requests", 1.0, id=3)
    tell("gauge", "queue", 1.0)
    series, lost = counted.read()
    assert (len(series), lost) == (OF_ONE + 2, 0)
    [rest] = [each for each in series if each["attributes"] == [("otel.metric.overflow", "true")]]
    assert rest["sum"] == 300
    [third] = [each for each in series if each["attributes"] == [("id", "3")]]
    assert third["sum"] == 2


def test_instruments_without_end_are_counted_as_lost(counted: Measured) -> None:
    for number in range(SERIES + 70):
        tell("counter", f"made up {number}", 1.0)
    series, lost = counted.read()
    assert (len(series), lost) == (SERIES, 70)


def test_words_are_bounded(counted: Measured) -> None:
    attributes = {f"{number:02}{'k' * 400}": "v" * 4000 for number in range(64)}
    telemetry.measured(telemetry.Measurement("counter", "n" * 4000, "u" * 4000, "d" * 4000, 1.0, attributes))
    [series], _ = counted.read()
    assert len(series["attributes"]) == ATTRIBUTES
    words = [
        series["name"],
        series["unit"],
        series["description"],
        *(word for pair in series["attributes"] for word in pair),
    ]
    assert {len(word) for word in words} == {LONGEST}


def test_a_histogram_tells_how_values_are_spread(counted: Measured) -> None:
    for value in range(1, 1001):
        tell("histogram", "took", value / 1000, "s")
    [series], _ = counted.read()
    buckets = series["buckets"]
    assert sum(n for _, n in buckets) == 1000
    assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
    below = 0
    for bound, n in buckets:
        below += n
        assert below == min(1000, math.floor(bound * 1000 + 1e-9))


def test_a_histogram_is_bounded_whatever_it_holds(counted: Measured) -> None:
    values = [0.0, -1.0, 5e-324, 1.7e308, *(2.0**n for n in range(-500, 500, 3))]
    for value in values:
        tell("histogram", "took", value)
    for value in (math.nan, math.inf, -math.inf):
        tell("histogram", "took", value)
    [series], _ = counted.read()
    assert series["count"] == len(values)
    assert len(series["buckets"]) <= BUCKETS
    assert sum(n for _, n in series["buckets"]) == len(values)
    # the largest are kept apart
    assert series["buckets"][-1][1] == 1


def test_it_counts_from_when_it_is_asked_first() -> None:
    made = Measured()
    tell("counter", "orders", 1.0)
    assert made.read() == ([], 0)
    tell("counter", "orders", 1.0)
    assert made.read()[0][0]["sum"] == 1.0
    made.close()
    tell("counter", "orders", 1.0)
    assert not telemetry.listens()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_are_told_as_the_system_has_them() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    cpu, memory = processes([("", os.getpid()), ("gone", gone.pid)])
    assert (cpu["name"], cpu["unit"], cpu["attributes"]) == ("process.cpu.time", "s", [])
    assert 0 < cpu["sum"] <= sum(os.times()[:2]) + 0.1
    assert (memory["instrument"], memory["unit"]) == ("gauge", "By")
    assert 1 << 20 < memory["last"] < 1 << 40
    other, _ = processes([("files", os.getpid())])
    assert other["attributes"] == [("member", "files")]
