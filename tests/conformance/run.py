"""Runs the public test suites, from a local copy, through loop-kit: `make conformance SUITES=folder`.

docs/conformance.md says what is judged, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this folder, whose modules belong to a package

from tests.conformance import component_model, wasi  # noqa: E402
from tests.conformance.cases import Case  # noqa: E402

SUITES = {"component-model": component_model, "wasi-testsuite": wasi}
KNOWN = Path(__file__).with_name("known_failures.toml")
DEPTH = 3


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `judged`: what is wrong with it on wasmtime; None: not asked."""

    case: Case
    failures: list[str]
    judged: list[str] | None
    reason: str | None

    @property
    def verdict(self) -> str:
        """`passed`, `failed`, `known` (a listed failure) or `mended` (listed, but it passes)."""
        if self.failures:
            return "failed" if self.reason is None else "known"
        return "passed" if self.reason is None else "mended"

    @property
    def wasmtime(self) -> str | None:
        """`passed` or `failed` on wasmtime, or None."""
        return None if self.judged is None else "failed" if self.judged else "passed"


def find(folder: Path) -> list[Case]:
    """The cases of the suites in a folder or in a few levels of folders below it.

    Raises:
        SystemExit: There is no suite, or one twice.
    """
    cases: list[Case] = []
    for name, suite in SUITES.items():
        checkouts = [f for f in _folders(folder, DEPTH) if suite.is_checkout(f)]
        if len(checkouts) > 1:
            sys.exit(f"more than one checkout of {name}: {', '.join(map(str, checkouts))}")
        for checkout in checkouts:
            cases += suite.find(checkout)
    if not cases:
        sys.exit(f"no suite in {folder}; expected checkouts of {' and '.join(SUITES)}")
    return cases


def _folders(folder: Path, depth: int) -> Iterable[Path]:
    yield folder
    for below in sorted(folder.iterdir()) if depth else ():
        if below.is_dir() and not below.name.startswith("."):
            yield from _folders(below, depth - 1)


def known_failures() -> dict[str, str]:
    """The listed failures, each with its reason.

    Raises:
        SystemExit: An entry has no reason.
    """
    listed = tomllib.loads(KNOWN.read_text())
    bare = [name for name, reason in listed.items() if not isinstance(reason, str) or not reason.strip()]
    if bare:
        raise SystemExit(f"{KNOWN.name}: no reason for {', '.join(bare)}")
    return listed


def show(outcome: Outcome) -> None:
    """Prints how a case ended."""
    beside = f"  (wasmtime: {outcome.wasmtime})" if outcome.wasmtime else ""
    print(f"{outcome.verdict:7} {outcome.case.name}{beside}", flush=True)
    if outcome.verdict == "mended":
        print(f"        it passes: take it off {KNOWN.name}")
    if outcome.verdict == "known":
        print(f"        {outcome.reason}")
    if outcome.verdict == "failed":
        for failure in outcome.failures:
            print("        " + failure.replace("\n", "\n        "))
    for failure in outcome.judged or ():
        print("        wasmtime: " + failure.replace("\n", "\n        "))


def summary(outcomes: list[Outcome]) -> str:
    """A table of counts by folder."""
    judged = outcomes[0].judged is not None
    heads = ["folder", "cases", "passed", "failed", "known"] + (["wasmtime", "both"] if judged else [])
    folders: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        folders.setdefault(outcome.case.folder, []).append(outcome)
    rows = [[name, *_counts(group, judged)] for name, group in folders.items()]
    rows.append(["all", *_counts(outcomes, judged)])
    width = max(len(row[0]) for row in rows)
    lines = [[head.rjust(8) for head in heads], *[[cell.rjust(8) for cell in row] for row in rows]]
    for line, first in zip(lines, [heads[0], *[row[0] for row in rows]], strict=True):
        line[0] = first.ljust(width)
    return "\n".join("".join(line) for line in lines)


def _counts(group: list[Outcome], judged: bool) -> list[str]:
    passed = [o for o in group if not o.failures]
    verdicts = [o.verdict for o in group]
    counts = [len(group), len(passed), verdicts.count("failed"), verdicts.count("known")]
    if judged:
        counts += [sum(not o.judged for o in group), sum(not o.judged for o in passed)]
    return list(map(str, counts))


def as_json(outcomes: list[Outcome]) -> str:
    """All outcomes, for programs."""
    cases = [
        {
            "name": o.case.name,
            "verdict": o.verdict,
            "failures": o.failures,
            "reason": o.reason,
            "wasmtime": o.wasmtime,
            "wasmtime_failures": o.judged,
        }
        for o in outcomes
    ]
    return json.dumps({"cases": cases}, indent=2)


def main() -> int:
    """Returns 0 if every case passed or is a known failure, and every known failure failed."""
    parser = argparse.ArgumentParser(prog="make conformance SUITES=", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the suites are checked out")
    parser.add_argument("--only", metavar="GLOB", default="*", help="cases whose names match")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument("--judge", choices=["wasmtime"], help="run each case by wasmtime as well")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="cases at once")
    options = parser.parse_args()

    found = find(options.folder.resolve())
    reasons = known_failures()
    cases = [case for case in found if fnmatch(case.name, options.only)]
    if not cases:
        sys.exit(f"no case is called {options.only}")

    def outcome(case: Case) -> Outcome:
        failures = case.run()
        return Outcome(case, failures, case.judge() if options.judge else None, reasons.get(case.name))

    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for made in pool.map(outcome, cases):
            outcomes.append(made)
            if not options.json:
                show(made)
    bad = any(o.verdict in ("failed", "mended") for o in outcomes)
    if options.json:
        print(as_json(outcomes))
    else:
        print(f"\n{summary(outcomes)}")
    present = {case.name.partition("/")[0] for case in found}
    for suite in SUITES.keys() - present:
        print(f"NOT RUN: {suite}, of which there is no checkout in {options.folder}", file=sys.stderr)
    for name in sorted(reasons.keys() - {case.name for case in found}):
        if name.partition("/")[0] in present:
            print(f"{KNOWN.name} lists {name}, which this copy of the suite lacks", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
