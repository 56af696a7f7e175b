"""The grant of `loop:fsx`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, Integer, MapOf, Size, Table
from loop_kit.manifest._text import FILE, NAME

__all__ = ["GRANT", "sentences"]


def _root(**values: Any) -> dict[str, Any]:
    return {"mode": "ro"} | values


GRANT = Table(
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


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    roots: Mapping[str, Any] = grant.get("roots", {})
    return [f"read {root['path']} (as `{name}`, read-only)" for name, root in roots.items()]
