"""Conformance of providers: the interface in `wit/`, and the run that drives whatever serves it.

    async with Target("unix:/run/conform.sock") as target:
        for outcome in await run(target):
            print(outcome.name, outcome.problem or "ok")

`provider.py` is what such a run expects, written in Python.

Capabilities have suites of their own: `suite_of("fsx").run(way)`.
"""

from __future__ import annotations

from loop_kit.conform._run import Outcome, names, run
from loop_kit.conform._scene import Unmet, expect, fails
from loop_kit.conform._suite import PLACEMENTS, Provided, Scene, Suite, SuiteCase, Way, suite_of, suites, ways
from loop_kit.conform._target import WIT, Target

__all__ = [
    "PLACEMENTS",
    "WIT",
    "Outcome",
    "Provided",
    "Scene",
    "Suite",
    "SuiteCase",
    "Target",
    "Unmet",
    "Way",
    "expect",
    "fails",
    "names",
    "run",
    "suite_of",
    "suites",
    "ways",
]
