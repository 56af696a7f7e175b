"""What ships with loop-kit for a package: the provider, and the least that a component can do something with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OFFERS", "Offer"]


@dataclass(frozen=True)
class Offer:
    """A provider, and a grant to begin with.

    Attributes:
        use: What the provider is.
        name: What it is called where it is added.
        grant: What a component may then touch. `NAME` in its keys stands for the component.
        config: The provider's configuration.
        folders: Folders that the grant or the configuration names, which must be there.
        interface: The interface that most components want.
        why: A comment on the grant: what it allows, and what would be more.
    """

    use: str
    name: str
    grant: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    interface: str = ""
    why: str = ""

    def granted(self, component: str) -> dict[str, Any]:
        """The grant of a component."""
        return {
            name: {component if inner == "NAME" else inner: item for inner, item in value.items()}
            if isinstance(value, Mapping)
            else value
            for name, value in self.grant.items()
        }


OFFERS = {
    "loop:core": Offer(
        "builtin:core",
        "core",
        {"log": {"level": "info"}},
        interface="log",
        why="Its log without what is only for debugging; clocks and random numbers need no grant.",
    ),
    "loop:devserver": Offer(
        "builtin:devserver",
        "devserver",
        {"allow": []},
        interface="workspace",
        why="To look at this workspace, its log included, and to change nothing: `allow` would let it.",
    ),
    "loop:fsx": Offer(
        "builtin:fsx",
        "files",
        {"roots": {"docs": {"path": "docs", "mode": "ro"}}},
        folders=("docs",),
        interface="files",
        why='One folder, to read: nothing above it is there. `mode = "rw"` would let it be changed.',
    ),
    "loop:netx": Offer(
        "builtin:netx",
        "net",
        {"allow": ["https://api.example.com"]},
        interface="http-client",
        why="One server to ask, by HTTPS: write yours. `listen` would let it serve.",
    ),
    "loop:process": Offer(
        "builtin:process",
        "programs",
        {"programs": {"date": {"path": "/bin/date"}}},
        interface="commands",
        why="One program to run, without arguments: `args` would say which it may be given.",
    ),
    "wasi:blobstore": Offer(
        "python:loop_kit.capabilities.blobstore:BlobStore",
        "objects",
        {"containers": {"NAME": {"mode": "rw", "max-size": "100MiB"}}},
        {"backend": "files", "path": "objects"},
        interface="whole",
        why="One container of its own, of this size at most, in the folder `objects`.",
    ),
    "wasi:keyvalue": Offer(
        "builtin:keyvalue",
        "store",
        {"buckets": {"NAME": {"mode": "rw", "max-size": "10MiB"}}},
        {"path": "store.db"},
        interface="store",
        why="One bucket of its own, of this size at most, in the file `store.db`.",
    ),
}
