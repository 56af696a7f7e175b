"""Where artifacts are signed and verified: a registry, a layout on disk, or the store; and their signatures there."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from loop_kit.errors import PackageError
from loop_kit.oci._places import Repository
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout
from loop_kit.oci.model import Descriptor, Manifest, parse
from loop_kit.oci.reference import LayoutReference, Reference
from loop_kit.oci.registry import Registry
from loop_kit.trust._artifact import attach
from loop_kit.trust._fetch import fetch
from loop_kit.trust.bundle import MEDIA_TYPE, Bundle

if TYPE_CHECKING:
    from loop_kit.oci.model import Index
    from loop_kit.store import Store

__all__ = ["Place", "at_layout", "at_registry", "at_store"]


class Place(Protocol):
    """Where an artifact is.

    Attributes:
        root: Its root.
        document: What the root says.
        blobs: Where its signatures are.
        signatures: Those that there are.
    """

    root: Descriptor
    document: Manifest | Index
    blobs: Blobs
    signatures: list[Descriptor]

    async def add(self, bundle: Bundle) -> Descriptor:
        """Puts a signature there, and returns its manifest's descriptor.

        Raises:
            PackageError: It is refused.
        """
        ...


class _InRegistry:
    def __init__(
        self, registry: Registry, reference: Reference, root: Descriptor, data: bytes, blobs: Blobs
    ) -> None:
        self.root = root
        self.document = parse(data, root.media_type, what=str(reference))
        self.blobs = blobs
        self.signatures: list[Descriptor] = []
        self._registry = registry
        self._repository = reference.repository

    async def add(self, bundle: Bundle) -> Descriptor:
        made = attach(self.blobs, self.root, bundle)
        data = self.blobs.read(made.digest)
        document = parse(data, made.media_type)
        assert isinstance(document, Manifest)
        for part in document.parts:
            await self._registry.push_blob(self._repository, part, self.blobs)
        await self._registry.push_manifest(self._repository, data)
        return made


@contextlib.asynccontextmanager
async def at_registry(reference: Reference) -> AsyncIterator[Place]:
    """An artifact of a registry, and its signatures, fetched; its bytes are those of its digest.

    Raises:
        PackageError: It is not there, or the registry cannot be asked.
    """
    with tempfile.TemporaryDirectory(prefix="loop-trust-") as folder:
        async with Registry(reference.registry) as registry:
            root, data = await registry.manifest(reference)
            place = _InRegistry(registry, reference, root, data, Blobs(folder))
            place.signatures = await fetch(Repository(registry, reference.repository), root, place.blobs)
            yield place


class _InLayout:
    def __init__(self, layout: Layout, root: Descriptor) -> None:
        self.root = root
        self.blobs = layout.blobs
        self.document = parse(
            self.blobs.read(root.digest), root.media_type, what=f"the artifact {root.digest}"
        )
        self.signatures = [one for one in layout.referrers(root.digest) if one.artifact_type == MEDIA_TYPE]
        self._layout = layout

    async def add(self, bundle: Bundle) -> Descriptor:
        made = attach(self.blobs, self.root, bundle)
        self._layout.add(None, made)
        return made


class _InStore:
    def __init__(self, store: Store, blobs: Blobs, root: Descriptor) -> None:
        self.root = root
        self.blobs = blobs
        self.document = parse(blobs.read(root.digest), root.media_type, what=f"the artifact {root.digest}")
        self.signatures = [one for one in store.referrers(root.digest) if one.artifact_type == MEDIA_TYPE]
        self._store = store

    async def add(self, bundle: Bundle) -> Descriptor:
        made = attach(self.blobs, self.root, bundle)
        document = parse(self.blobs.read(made.digest), made.media_type)
        assert isinstance(document, Manifest)
        self._store.refer(self.root, made, [part.digest for part in document.parts])
        return made


def at_store(store: Store, blobs: Blobs, root: Descriptor) -> Place:
    """An artifact of the store.

    Args:
        store: The store.
        blobs: Its blobs, held while this is used.
        root: The artifact.

    Raises:
        Damaged: It is not what its digest says.
        PackageError: It is not there, or malformed.
    """
    return _InStore(store, blobs, root)


def at_layout(reference: LayoutReference) -> list[Place]:
    """The artifacts of a layout on disk: the one that is named, or all that are not about another, such as signatures.

    Raises:
        PackageError: There is none, or something is malformed.
    """
    layout = Layout(reference.folder)
    named = reference.digest or reference.tag
    if named is not None:
        return [_InLayout(layout, layout.resolve(named))]
    listed = {one.digest: one for one in layout.index().manifests}
    places = [_InLayout(layout, one) for one in listed.values() if one.artifact_type != MEDIA_TYPE]
    found: list[Place] = [place for place in places if place.document.subject is None]
    if not found:
        raise PackageError(f"{reference.folder} lists no artifacts")
    return found
