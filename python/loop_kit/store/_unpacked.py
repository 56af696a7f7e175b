"""Packages of providers, unpacked in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loop_kit.errors import Damaged
from loop_kit.store._held import root_of
from loop_kit.store._store import Store
from loop_kit.store._use import Use

if TYPE_CHECKING:
    from loop_kit.pack import Runnable

__all__ = ["unpacked"]


def unpacked(store: Store, use: Use, digest: str, *, mend: bool = False) -> Runnable:
    """A package as it runs: unpacked, if it was not; every file of it was looked at.

    Args:
        store: The store.
        use: Who needs it.
        digest: The package's.
        mend: Unpack it anew where it is not as it was.

    Raises:
        Damaged: It is there, and not as it was unpacked.
        PackageError: It cannot be unpacked, or nothing here can run it.
        OSError: It cannot be written.
    """
    from loop_kit.pack import unpack

    root = root_of(use.blobs, digest)
    if mend and store.trees.path(digest).is_dir():
        try:
            store.trees.check(digest)
        except Damaged:
            store.trees.remove(digest)
    tree = store.trees.make(use, digest, lambda place: unpack(use.blobs, root, place))
    return unpack(use.blobs, root, tree.files)
