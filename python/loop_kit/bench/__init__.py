"""`loop bench`: what a call costs in each placement, over each transport, by each language at hand.

The same components run everywhere, linked by a manifest as a workspace's are. They tell by their own clock when they
called and were answered; the session and the provider tell how long they had the call. Durations alone are compared, so
that no two clocks have to agree.
"""

from loop_kit.bench._compare import Change, compare
from loop_kit.bench._html import html
from loop_kit.bench._places import Place, Remote, places
from loop_kit.bench._results import Results, Run
from loop_kit.bench._run import Options, run
from loop_kit.bench._segments import SEGMENTS, Segments, attribute
from loop_kit.bench._transports import transports
from loop_kit.bench._work import WORKLOADS, Workload

__all__ = [
    "SEGMENTS",
    "WORKLOADS",
    "Change",
    "Options",
    "Place",
    "Remote",
    "Results",
    "Run",
    "Segments",
    "Workload",
    "attribute",
    "compare",
    "html",
    "places",
    "run",
    "transports",
]
