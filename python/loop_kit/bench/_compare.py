"""Two runs of the benchmark, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from loop_kit.bench._results import Results

__all__ = ["Change", "compare", "differences"]


@dataclass(frozen=True)
class Change:
    """One workload in one place, before and after.

    Attributes:
        before, after: Microseconds of half of the calls at most; of several at once, between one answer and the next.
            None where it was not measured.
    """

    workload: str
    place: str
    before: float | None
    after: float | None

    @property
    def ratio(self) -> float | None:
        """Below 1: faster than before."""
        return None if not self.before or self.after is None else self.after / self.before


def compare(before: Results, after: Results) -> list[Change]:
    """What changed, in the order of `before`, with what is new at the end."""
    old, new = (
        {run.key: run.p50_us if run.p50_us is not None else 1e6 / run.rate for run in results.runs}
        for results in (before, after)
    )
    return [Change(*key, old.get(key), new.get(key)) for key in {**old, **new}]


def differences(before: Results, after: Results) -> list[str]:
    """What else is different, and may be why."""
    said = []
    for what, old, new in (
        ("machine", before.machine, after.machine),
        ("version of", before.versions, after.versions),
        ("measured", {"quickly": before.quick}, {"quickly": after.quick}),
    ):
        for name in {**old, **new}:
            was, now = old.get(name), new.get(name)
            if was != now and name != "load":
                said.append(f"{what} {name}: {was} before, {now} after")
    return said
