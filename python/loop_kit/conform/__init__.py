"""Conformance of providers: the interface in `wit/`, and the run that drives whatever serves it.

    async with Target("unix:/run/conform.sock") as target:
        for outcome in await run(target):
            print(outcome.name, outcome.problem or "ok")

`provider.py` is what such a run expects, written in Python.
"""

from __future__ import annotations

from loop_kit.conform._run import Outcome, names, run
from loop_kit.conform._target import WIT, Target

__all__ = ["WIT", "Outcome", "Target", "names", "run"]
