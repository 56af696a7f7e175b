"""How long tests repeat things, and what they found out doing it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

PROPERTY = "soak"


class Soak:
    """`soak(usual, full)` is how often to do something: `full` in a soak, `usual` otherwise."""

    def __init__(self, item: pytest.Item, on: bool, seconds: float) -> None:
        self._item = item
        self._on = on
        self._seconds = seconds

    @property
    def timeout(self) -> float:
        """Seconds that a process of the test may take."""
        return 3600 if self._on else 60

    def __call__(self, usual: int, full: int) -> int:
        return full if self._on else usual

    def rounds(self, usual: int) -> Iterator[int]:
        """Numbers from 0, each for a round that is told by it alone: so many, or for the whole time of a soak."""
        end = time.monotonic() + self._seconds
        done = 0
        while time.monotonic() < end if self._on else done < usual:
            yield done
            done += 1
        self.note(rounds=done)

    def note(self, **facts: Any) -> None:
        """Adds facts to the results of the soak."""
        self._item.user_properties.append((PROPERTY, facts))


def results(reports: list[pytest.TestReport]) -> list[dict[str, Any]]:
    """What the reports of tests tell, as JSON has it."""
    found = []
    for report in reports:
        facts = [facts for name, facts in report.user_properties if name == PROPERTY]
        result = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 3)}
        found.append(result | ({"facts": facts} if facts else {}))
    return sorted(found, key=lambda r: r["test"])
