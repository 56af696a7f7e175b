"""The grant of `loop:core`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, Integer, ListOf, Size, Table
from loop_kit.manifest._text import TEXT

__all__ = ["GRANT", "sentences"]

_ATTRIBUTES = Field(Integer(1), "Attributes of one of them at most; the rest is dropped.", default=64)
_TEXT = Field(Size(), "Bytes of one name, key or word at most; a longer one is cut.", default=4096)


def _most(name: str, what: str, default: int) -> Field:
    doc = f"How many {what} there may be at once."
    return Field(Table(name, doc, dict, {"max": Field(Integer(1), doc, default=default)}), doc)


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
        "metrics": Field(
            Table(
                "metrics",
                "How much the component may have measured.",
                dict,
                {
                    "instruments": Field(Integer(1), "Instruments at once.", default=256),
                    "series": Field(
                        Integer(1),
                        "Series, all instruments together; more are summed up in one.",
                        default=2000,
                    ),
                    "attributes": _ATTRIBUTES,
                    "text": _TEXT,
                },
            ),
            "How much the component may have measured.",
        ),
        "trace": Field(
            Table(
                "trace",
                "How much the component may tell of its work.",
                dict,
                {
                    "spans": Field(Integer(1), "Spans at once.", default=256),
                    "events": Field(Integer(1), "Events of one span; the rest is dropped.", default=128),
                    "attributes": _ATTRIBUTES,
                    "text": _TEXT,
                },
            ),
            "How much the component may tell of its work.",
        ),
        "timers": _most("timers", "timers, tick streams and waits for tokens", 1024),
        "random": _most("random", "seeded generators", 1024),
        "cancel": _most("cancel", "tokens", 16384),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    log: Mapping[str, Any] = grant.get("log", {})
    targets = log.get("targets")
    about = "" if targets is None else f" about {', '.join(targets) or 'nothing'}"
    return [
        f"log{about} from level {log.get('level', 'trace')} on",
        "tell measurements and spans",
        "read clocks and random numbers",
    ]
