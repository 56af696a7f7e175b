"""What `loop dev` stands on: watches a workspace, and builds what has really changed.

    async with dev.Watcher(manifest) as watcher, dev.Builder(manifest, print) as builder:
        await builder.build(await builder.scan())
        async for batch in watcher:
            print(await builder.build(await builder.changed(batch)))

`Watcher` tells which paths may have changed, at once. `Builder` knows what each member is made of, by the contents of
its files, and builds components. Neither loads or swaps anything. docs/dev.md says what counts as an input.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_kit.dev._builds import Builder
    from loop_kit.dev._command import Ran, make, run
    from loop_kit.dev._events import Begun, Cancelled, Done, Event, Failed, Fetching, Member, Place
    from loop_kit.dev._places import places
    from loop_kit.dev._watch import Batch, Watcher

__all__ = [
    "Batch", "Begun", "Builder", "Cancelled", "Done", "Event", "Failed", "Fetching", "Member", "Place", "Ran", "Watcher",
    "make", "places", "run",
]  # fmt: skip

# Commands that only look at what runs do not pay for what watches and builds.
_HOMES = {
    "_builds": ("Builder",),
    "_command": ("Ran", "make", "run"),
    "_events": ("Begun", "Cancelled", "Done", "Event", "Failed", "Fetching", "Member", "Place"),
    "_places": ("places",),
    "_watch": ("Batch", "Watcher"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"loop_kit.dev.{home}"), name)
            return value
    raise AttributeError(f"module 'loop_kit.dev' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
