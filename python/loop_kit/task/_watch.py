"""Whenever something changes in a workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

__all__ = ["changes"]


def changes(root: str) -> Iterator[None]:
    """Comes at once, and then after each change of the workspace in `root`, once it has come to rest; without an end.

    Raises:
        ManifestError: The manifest is wrong to begin with.
        LoadError: The system does not watch.
    """
    from loop_kit.dev._watch import Watcher
    from loop_kit.manifest import load

    watcher = Watcher(load(root))
    with asyncio.Runner() as runner:
        run = runner.get_loop().run_until_complete  # in the runner's own an interrupt may be lost
        run(watcher.__aenter__())
        try:
            while True:
                yield
                run(watcher.__anext__())
        finally:
            run(watcher.aclose())
