"""The grant of `wasi:blobstore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Bool, Choice, Field, Integer, MapOf, Size, Table

__all__ = ["GRANT", "sentences"]

_CONTAINER = Table(
    "container",
    "What may be done with a container.",
    dict,
    {
        "mode": Field(Choice(("ro", "rw")), "Read-only, or read and write.", default="ro"),
        "create": Field(Bool(), "Whether it may be created, and deleted.", default=False),
        "max-size": Field(
            Size(), "Bytes of all objects, which no write may exceed; 1 GiB by default in memory and files."
        ),
        "max-objects": Field(Integer(1), "Objects at once; 100,000 by default in memory and files."),
    },
)

GRANT = Table(
    "grant-wasi-blobstore",
    "The containers that the component may use.",
    dict,
    {
        "containers": Field(
            MapOf(_CONTAINER), "Containers by name, or with a final * by what their names begin with."
        ),
        "max-name": Field(Size(), "Bytes of the name of a container or an object.", default=1024),
        "max-object": Field(Size(), "Bytes of an object.", default=1 << 30),
        "max-whole": Field(Size(), "Bytes that are read at once and not as a stream.", default=16 << 20),
        "max-list": Field(Integer(1), "Names that one call of whole returns.", default=1000),
        "max-batch": Field(Integer(1), "Names of one delete-objects.", default=1000),
        "max-streams": Field(Integer(1), "Objects and lists that are read or written at once.", default=64),
        "max-containers": Field(
            Integer(1), "Containers that there may be of those that may be created.", default=16
        ),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    said = []
    for name, container in grant.get("containers", {}).items():
        many = name.endswith("*")
        which = f"containers whose names begin with `{name[:-1]}`" if many else f"the container `{name}`"
        does = "read and write" if container.get("mode") == "rw" else "read"
        most = [f"{container['max-size']} bytes"] if "max-size" in container else []
        most += [f"{container['max-objects']} objects"] if "max-objects" in container else []
        up_to = f", up to {' in '.join(most)}{' each' if many else ''}" if most else ""
        said.append(f"{does} {which}{up_to}")
        if container.get("create"):
            said.append(f"create and delete {which}")
    return said
