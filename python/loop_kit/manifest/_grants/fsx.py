"""The grant of `loop:fsx`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, Integer, MapOf, Size, Table
from loop_kit.manifest._text import FILE, NAME

__all__ = ["GRANT", "sentences"]


def _root(**values: Any) -> dict[str, Any]:
    return {"mode": "ro"} | values


_QUOTA = {
    "max-bytes": Field(
        Size(), "Bytes that the files in it may have together, for anything to be added.", default=1 << 30
    ),
    "max-files": Field(
        Integer(1),
        "Files, directories and links that it may hold, for anything to be added.",
        default=100_000,
    ),
}

GRANT = Table(
    "grant-loop-fsx",
    "The directories that the component may read or change.",
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
                            Choice(("ro", "rw")),
                            "What may be done there: only reading, or everything.",
                            default="ro",
                        ),
                        "links": Field(
                            Choice(("refuse", "follow", "create")),
                            "What symbolic links mean there: no path leads through one; those that stay inside are "
                            "followed; or the component may make some too.",
                            default="follow",
                        ),
                        **_QUOTA,
                    },
                ),
                key_pattern=NAME.pattern,
                key_expects=NAME.expects,
            ),
            "Directories by the name that the component knows them by.",
        ),
        "temp": Field(
            Table(
                "temp",
                "Directories that are removed when the component drops them.",
                dict,
                {
                    "path": Field(FILE, "Where they are made; the system's own place if absent."),
                    **_QUOTA,
                    "max-dirs": Field(Integer(1), "Directories at once.", default=16),
                },
            ),
            "Temporary directories; none if absent.",
        ),
        "max-read": Field(Size(), "Bytes that one read of a file returns at most.", default=16 << 20),
        "max-entries": Field(
            Integer(1), "Entries or paths that one list or glob returns at most.", default=100_000
        ),
        "max-streams": Field(Integer(1), "Streams at once, of files and of walks.", default=64),
        "max-watches": Field(Integer(1), "Watches at once.", default=16),
        "max-watched": Field(Integer(1), "Directories that all watches together watch.", default=10_000),
        "max-events": Field(Integer(1), "Events that a watch keeps until they are read.", default=4096),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    roots: Mapping[str, Any] = grant.get("roots", {})
    said = []
    for name, root in roots.items():
        links = {"refuse": ", through no link", "create": ", and make links"}.get(root.get("links", ""), "")
        if root.get("mode", "ro") == "ro":
            said.append(f"read {root['path']} (as `{name}`, read-only{links})")
        else:
            most = _most(root)
            said.append(f"read and change {root['path']} (as `{name}`, up to {most}{links})")
    if (temp := grant.get("temp")) is not None:
        place = temp.get("path", "the system's temporary directory")
        said.append(f"have {temp.get('max-dirs', 16)} temporary directories in {place} (up to {_most(temp)})")
    return said


def _most(quota: Mapping[str, Any]) -> str:
    return f"{quota.get('max-bytes', 1 << 30):,} bytes in {quota.get('max-files', 100_000):,} files"
