"""The grants of the capabilities that ship with loop-kit, checked with the rest of the manifest.

A grant belongs to a capability, whichever provider serves it, so it is found by the import's package. Grants
of other packages are free: their providers check them.
"""

from __future__ import annotations

from typing import Any

from loop_kit.manifest._shape import Choice, Field, Integer, ListOf, MapOf, Size, Table
from loop_kit.manifest._text import FILE, NAME, TEXT

__all__ = ["GRANTS"]


def _root(**values: Any) -> dict[str, Any]:
    return {"mode": "ro"} | values


FSX = Table(
    "grant-loop-fsx",
    "The directories that the component may read.",
    dict,
    {
        "roots": Field(
            MapOf(
                Table(
                    "root",
                    "A directory.",
                    _root,
                    {
                        "path": Field(FILE, "The directory on the host.", required=True),
                        "mode": Field(
                            Choice(
                                ("ro",), {"rw": "is not available in this version: loop:fsx is read-only"}
                            ),
                            "What may be done there.",
                            default="ro",
                        ),
                    },
                ),
                key_pattern=NAME.pattern,
                key_expects=NAME.expects,
            ),
            "Directories by the name that the component knows them by.",
        ),
        "max-read": Field(Size(), "Bytes that one read of a file returns at most.", default=16 << 20),
        "max-entries": Field(
            Integer(1), "Entries or paths that one list or glob returns at most.", default=100_000
        ),
    },
)

CORE = Table(
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

GRANTS: dict[str, Table] = {"loop:core": CORE, "loop:fsx": FSX}
