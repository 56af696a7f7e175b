"""The store as a place that artifacts are copied from, with what is about them."""

from __future__ import annotations

from collections.abc import Callable

from loop_kit.oci._places import Folder
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor
from loop_kit.store._store import Store

__all__ = ["Stored"]


class Stored(Folder):
    """What a store has.

    Args:
        store: The store.
        blobs: Its blobs, held while they are used.
        wanted: Which of what is about an artifact goes with it.
    """

    def __init__(
        self, store: Store, blobs: Blobs, wanted: Callable[[Descriptor], bool] = lambda _: True
    ) -> None:
        super().__init__(blobs)
        self._store = store
        self._wanted = wanted

    async def referrers(self, digest: str) -> list[Descriptor]:
        """What the store has that is about an artifact, as far as it is wanted."""
        return [each for each in self._store.referrers(digest) if self._wanted(each)]
