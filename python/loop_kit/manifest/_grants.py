"""The grants of the capabilities that ship with loop-kit, checked with the rest of the manifest.

A grant belongs to a capability, whichever provider serves it, so it is found by the import's package. Grants
of other packages are free: their providers check them.
"""

from __future__ import annotations

from typing import Any

from loop_kit.manifest._shape import Choice, Field, MapOf, Table
from loop_kit.manifest._text import FILE, NAME

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
    },
)

GRANTS: dict[str, Table] = {"loop:fsx": FSX}
