"""The grant of `loop:core`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, ListOf, Size, Table
from loop_kit.manifest._text import TEXT

__all__ = ["GRANT", "sentences"]

GRANT = Table(
    "grant-loop-core",
    "What the component may do besides reading clocks and random numbers.",
    dict,
    {
        "log": Field(
            Table(
                "log",
                "What the component may log; the rest is dropped.",
                dict,
                {
                    "level": Field(
                        Choice(("trace", "debug", "info", "warn", "error")),
                        "The least severe records that pass.",
                        default="trace",
                    ),
                    "targets": Field(
                        ListOf(TEXT),
                        'Targets that may log, with those below them: "site" stands for "site.search" too. '
                        "All if absent.",
                    ),
                    "max-record": Field(
                        Size(),
                        "Bytes of one record: its strings, and 16 for each field. A longer one is shortened.",
                        default=64 << 10,
                    ),
                },
            ),
            "What the component may log.",
        ),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    log: Mapping[str, Any] = grant.get("log", {})
    targets = log.get("targets")
    about = "" if targets is None else f" about {', '.join(targets) or 'nothing'}"
    return [f"log{about} from level {log.get('level', 'trace')} on", "read clocks and random numbers"]
