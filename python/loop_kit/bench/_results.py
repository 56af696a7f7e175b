"""What was measured, and the file that keeps it."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from loop_kit.bench._segments import SEGMENTS

__all__ = ["BadResults", "Results", "Run", "machine", "now", "rounded"]

_FORMAT = 1


class BadResults(ValueError):
    """A file that is none of `loop bench`."""


@dataclass(frozen=True)
class Run:
    """One workload in one place.

    Attributes:
        workload: Its name.
        placement, transport, language, topology: Where the provider ran.
        payload: Bytes of the value that travelled.
        in_flight: Calls at once.
        calls: How many were measured.
        p50_us, p99_us: What half, and all but a hundredth, of the calls took at most; of one at a time alone.
        rate: Calls a second.
        throughput: Bytes a second, both ways together.
        segments_us: Where the time of a usual call went, by `SEGMENTS`; together its whole.
        over_budget: Calls that took longer than the budget; None where there is none.
    """

    workload: str
    placement: str
    transport: str
    language: str
    topology: str
    payload: int
    in_flight: int
    calls: int
    p50_us: float | None
    p99_us: float | None
    rate: float
    throughput: float
    segments_us: Mapping[str, float] | None = None
    over_budget: int | None = None

    @property
    def place(self) -> str:
        return f"{self.placement} {self.transport} {self.language}"

    @property
    def key(self) -> tuple[str, str]:
        """What a run is compared by."""
        return self.workload, self.place


@dataclass(frozen=True)
class Results:
    """A run of the benchmark: all of its runs, and what they depend on.

    Attributes:
        skipped: Where nothing was measured, with the reason.
    """

    date: str
    quick: bool
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    runs: Sequence[Run]
    skipped: Sequence[tuple[str, str]] = field(default=())

    def json(self) -> dict[str, Any]:
        """As the file has it: each run with its transport, topology, payload, versions and machine's name."""
        runs = [asdict(run) | {"versions": dict(self.versions)} for run in self.runs]
        return {
            "benchmark": "loop bench",
            "format": _FORMAT,
            "date": self.date,
            "quick": self.quick,
            "machine": dict(self.machine),
            "segments": list(SEGMENTS),
            "runs": runs,
            "skipped": [list(item) for item in self.skipped],
        }

    def write(self, path: Path) -> None:
        """Raises OSError where it cannot be written."""
        path.write_text(json.dumps(self.json(), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file that `write` wrote.

        Raises:
            OSError: It cannot be read.
            BadResults: It is no such file.
        """
        try:
            said = json.loads(path.read_text())
            if said["benchmark"] != "loop bench" or said["format"] != _FORMAT:
                raise BadResults(f"{path}: not results of this version of `loop bench`")
            versions: dict[str, str] = {}
            runs = []
            for item in said["runs"]:
                versions |= item.pop("versions")
                runs.append(Run(**item))
            skipped = [(place, why) for place, why in said["skipped"]]
            return cls(said["date"], said["quick"], said["machine"], versions, runs, skipped)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadResults(f"{path}: not results of `loop bench`: {error}") from None


def rounded(run: Run) -> Run:
    """The run with four digits of each figure: more is noise."""
    return Run(**{key: _rounded(value) for key, value in asdict(run).items()})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return {
        "cpu": found[1] if found else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        # figures of a busy machine are noisy
        "load": round(os.getloadavg()[0], 2),
    }


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
