"""Packages of providers, unpacked in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import Damaged
from loop_kit.store._held import root_of
from loop_kit.store._store import Store
from loop_kit.store._use import Use

if TYPE_CHECKING:
    from loop_kit.pack import Runnable

__all__ = ["unpacked"]


def unpacked(store: Store, use: Use, digest: str, *, mend: bool = False, compare: bool = False) -> Runnable:
    """A package as it runs: unpacked, if it was not; every file of it was looked at.

    Args:
        store: The store.
        use: Who needs it.
        digest: The package's.
        mend: Unpack it anew where it is not as it was.
        compare: Compare it with the package itself, and not only with what was noted when it was unpacked.

    Raises:
        Damaged: It is there, and not as it was unpacked.
        PackageError: It cannot be unpacked, or nothing here can run it.
        OSError: It cannot be written.
    """
    from loop_kit.pack import unpack

    root = root_of(use.blobs, digest)

    def fill(place: Path) -> Runnable:
        return unpack(use.blobs, root, place)

    if store.trees.path(digest).is_dir():
        try:
            store.trees.check(digest)
            if compare:
                store.trees.compare(digest, fill)
        except Damaged:
            if not mend:
                raise
            store.trees.remove(digest)
    return fill(store.trees.make(use, digest, fill).files)
