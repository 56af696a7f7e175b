"""How long tests repeat things, and what they found out doing it."""

from typing import Any

import pytest

PROPERTY = "soak"


class Soak:
    """`soak(usual, full)` is how often to do something: `full` in a soak, `usual` otherwise."""

    def __init__(self, item: pytest.Item, on: bool) -> None:
        self._item = item
        self._on = on

    @property
    def timeout(self) -> float:
        """Seconds that a process of the test may take."""
        return 3600 if self._on else 60

    def __call__(self, usual: int, full: int) -> int:
        return full if self._on else usual

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
