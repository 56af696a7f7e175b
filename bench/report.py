"""Rounds, ratios and budgets: what the benchmarks have in common.

Whatever is compared is measured in turns, a round of each after the other, so that a machine that slows down
slows down both; a ratio is the median of the ratios of each round. Nothing is judged by absolute times.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

GUESTS = Path(__file__).parent / "guests"

# Does something n times and returns the seconds it took.
Timer = Callable[[int], float]


@dataclass(frozen=True)
class Figure:
    """One measured value: the median of its rounds."""

    name: str
    who: str
    unit: str
    samples: tuple[float, ...]

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "who": self.who,
            "value": significant(self.value),
            "unit": self.unit,
            "min": significant(min(self.samples)),
            "max": significant(max(self.samples)),
            "rounds": len(self.samples),
        }


@dataclass(frozen=True)
class Ratio:
    """One figure as a multiple of another, and the bound that the budget puts on it."""

    name: str
    who: str
    to: str
    ratio: float
    min: float
    max: float
    at_most: float | None
    at_least: float | None
    note: str

    @property
    def met(self) -> bool | None:
        if self.at_most is not None:
            return self.ratio <= self.at_most
        return None if self.at_least is None else self.ratio >= self.at_least

    @property
    def budget(self) -> str:
        bounds = (("<=", self.at_most), (">=", self.at_least))
        parts = [f"{sign} {bound:.4g}" for sign, bound in bounds if bound is not None]
        return " ".join([*parts, f"({self.note})"] if self.note else parts)


class Bench:
    """One run of a benchmark: its options, what it measured, and how that compares.

    Args:
        title: What the figures are about.
        seconds: How long one round of one figure takes.
        packages: The Python packages whose versions belong to the result.
        paths: More options, each a file: their names, and what they are for.
    """

    def __init__(
        self,
        title: str,
        *,
        seconds: float,
        packages: tuple[str, ...],
        paths: Mapping[str, str] | None = None,
    ) -> None:
        parser = argparse.ArgumentParser(description=f"Measures {title}; a table on stderr, JSON on stdout.")
        parser.add_argument("--quick", action="store_true", help="shorter rounds")
        parser.add_argument("--rounds", type=int, default=5, help="rounds of each figure (default: 5)")
        parser.add_argument("--only", default="", metavar="REGEX", help="only the groups whose names match")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON there instead")
        for name, doc in (paths or {}).items():
            parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=doc)
        self.options = parser.parse_args()
        self.title = title
        self.quick: bool = self.options.quick
        self.seconds = seconds / 4 if self.quick else seconds
        self.versions = {p: version(p) for p in packages}
        self.figures: dict[tuple[str, str], Figure] = {}
        self.ratios: list[Ratio] = []
        self.failed: list[str] = []

    def group(self, run: Callable[..., None], *args: Any) -> None:
        """Runs a group of figures, unless it is not asked for. One that fails does not stop the others."""
        if not re.search(self.options.only, run.__name__):
            return
        say(f"\n{(run.__doc__ or run.__name__).splitlines()[0]}")
        gc.collect()
        try:
            run(self, *args)
        except Exception:
            self.failed.append(run.__name__)
            traceback.print_exc()

    def measure(self, name: str, timers: Mapping[str, Timer], *, size: int = 0) -> None:
        """Measures `name` for each of `timers`, in turns.

        Args:
            name: What is measured.
            timers: Who does it, and how.
            size: Bytes that it moves; the figure is a rate then.
        """
        counts = {who: self._fit(timer) for who, timer in timers.items()}
        samples: dict[str, list[float]] = {who: [] for who in timers}
        for _ in range(self.options.rounds):
            for who, timer in timers.items():
                seconds = timer(counts[who]) / counts[who]
                samples[who].append(size / seconds / 1e9 if size else seconds * 1e6)
        for who in timers:
            self.add(name, who, "GB/s" if size else "us", samples[who])

    def add(self, name: str, who: str, unit: str, samples: list[float]) -> None:
        """Adds a figure and prints it."""
        figure = self.figures[name, who] = Figure(name, who, unit, tuple(samples))
        low, high = min(samples), max(samples)
        say(f"  {name:40} {who:32} {figure.value:>12,.4g} {unit:5} [{low:,.4g} .. {high:,.4g}]")

    def samples(self, name: str, who: str) -> tuple[float, ...]:
        return self.figures[name, who].samples

    def compare(
        self,
        name: str,
        who: str,
        to: str,
        *,
        of: str | None = None,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> None:
        """Compares two figures of `name`; `of` where the other's name differs.

        Args:
            name: What was measured.
            who: Whose figure is judged.
            to: Whose figure it is divided by.
            of: The name of that figure, if it is another.
            at_most: The budget, where less is better.
            at_least: The budget, where more is better.
            note: Where the budget comes from, if it is not a ratio itself.
        """
        pairs = zip(self.samples(name, who), self.samples(of or name, to), strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        middle = statistics.median(ratios)
        self.ratios.append(
            Ratio(name, who, to, middle, min(ratios), max(ratios), at_most, at_least, note),
        )

    def finish(self) -> None:
        """Prints the comparisons, writes the JSON, and exits: with 1 if anything failed to run."""
        say(f"\n{'figure':40} {'who':32} {'ratio':>9} {'':31} {'budget':<36} verdict")
        for r in self.ratios:
            verdict = {None: "", True: "met", False: "MISSED"}[r.met]
            say(f"{r.name:40} {r.who:32} {r.ratio:>9.4g} x {r.to:29} {r.budget:<36} {verdict}".rstrip())
        for name in self.failed:
            say(f"failed to run: {name}")
        document = {
            "benchmark": self.title,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "quick": self.quick,
            "machine": machine(),
            "versions": self.versions,
            "figures": [f.json() for f in self.figures.values()],
            "ratios": [
                {k: significant(v) for k, v in asdict(r).items()} | {"met": r.met} for r in self.ratios
            ],
            "failed": self.failed,
        }
        text = json.dumps(document, indent=1)
        if self.options.json:
            self.options.json.write_text(text + "\n")
        else:
            print(text)
        sys.exit(1 if self.failed else 0)

    def _fit(self, timer: Timer) -> int:
        """Warms up; how often to do it for a round to take its time."""
        n = 1
        while True:
            start = time.perf_counter()
            timer(n)
            elapsed = time.perf_counter() - start
            if elapsed >= self.seconds / 4:
                return max(1, round(n * self.seconds / elapsed))
            n *= 4


def significant(v: Any) -> Any:
    """Four digits of a number are as much as its rounds can tell."""
    return float(f"{v:.4g}") if isinstance(v, float) else v


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        # figures of a busy machine are noisy
        "load": round(os.getloadavg()[0], 2),
    }
