"""Where artifacts are: a repository of a registry, or a folder of blobs. `transfer` brings them from one to another."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from typing import Protocol

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES
from loop_kit.oci.blobs import CHUNK, Blobs, is_digest
from loop_kit.oci.layout import Layout, name_of
from loop_kit.oci.model import Descriptor, Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry

__all__ = ["Folder", "Place", "Repository", "bring"]

Tell = Callable[[int], object]
_DEEPEST = 8


class Place(Protocol):
    """What artifacts come from, and go to."""

    async def document(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or an index."""

    async def referrers(self, digest: str) -> list[Descriptor]:
        """What has `digest` as its subject."""

    async def is_whole(self, descriptor: Descriptor) -> bool:
        """Whether a document is here, and so all that it leads to."""

    async def fetch(self, descriptor: Descriptor, blobs: Blobs, tell: Tell) -> None:
        """Brings a blob from here into a folder."""

    async def take(self, descriptor: Descriptor, source: Place, tell: Tell) -> None:
        """Brings a blob here, unless it is."""

    async def put(self, descriptor: Descriptor, data: bytes) -> None:
        """Brings a document here, once all that it leads to is."""

    async def name(self, descriptor: Descriptor, data: bytes, tag: str | None, *, top: bool) -> None:
        """Gives a document that is here a name. `top`: whether it is what was asked for, or refers to that."""


async def bring(
    place: Place, blobs: Blobs, part: Descriptor, tell: Tell = lambda _: None, *, document: bool = False
) -> None:
    """Has something of a place be in a folder of blobs; what is there already and is another is brought anew.

    Args:
        place: Where it comes from.
        blobs: Where to.
        part: What it is.
        tell: Told the bytes of a blob as they come.
        document: Whether it is a manifest or an index.

    Raises:
        Damaged: It is not what its digest says.
        PackageError: It is not there, or nobody can be asked.
    """
    digest = _checked(part)
    await asyncio.to_thread(blobs.mend, digest)
    if part.data is not None:
        await asyncio.to_thread(_add, blobs, part, part.data)
    if blobs.size(digest) is not None:
        return
    if document:
        await asyncio.to_thread(_add, blobs, part, await place.document(part))
    else:
        await place.fetch(part, blobs, tell)


def _add(blobs: Blobs, part: Descriptor, data: bytes) -> None:
    with blobs.writer(part.digest, part.size) as writer:
        if writer is not None:
            writer.restart()
            writer.write(data)


class Repository:
    """A repository of a registry."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self.registry = registry
        self.repository = repository

    async def document(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or an index, checked."""
        reference = Reference(self.registry.host, self.repository, digest=_checked(descriptor))
        found, data = await self.registry.manifest(reference)
        _compare(descriptor, found.size, f"what {self.registry.host} sent")
        return data

    async def referrers(self, digest: str) -> list[Descriptor]:
        """What has `digest` as its subject."""
        return await self.registry.referrers(self.repository, digest)

    async def is_whole(self, descriptor: Descriptor) -> bool:
        """Whether a document is here: registries take one only once all that it leads to is."""
        reference = Reference(self.registry.host, self.repository, digest=_checked(descriptor))
        return await self.registry.find(reference) is not None

    async def fetch(self, descriptor: Descriptor, blobs: Blobs, tell: Tell) -> None:
        """Brings a blob from here into a folder."""
        await self.registry.pull_blob(self.repository, descriptor, blobs, tell)

    async def take(self, descriptor: Descriptor, source: Place, tell: Tell) -> None:
        """Brings a blob here, unless it is."""
        near = isinstance(source, Repository) and source.registry.host == self.registry.host
        mount = source.repository if isinstance(source, Repository) and near else None
        if isinstance(source, Folder):
            await self.registry.push_blob(self.repository, descriptor, source.blobs, tell)
            return
        if await self.registry.offer_blob(self.repository, descriptor, mount=mount):
            tell(descriptor.size)
            return
        with tempfile.TemporaryDirectory(prefix="loop-copy-") as folder:
            blobs = Blobs(folder)
            await source.fetch(descriptor, blobs, tell)
            await self.registry.push_blob(self.repository, descriptor, blobs)

    async def put(self, descriptor: Descriptor, data: bytes) -> None:
        """Brings a document here, once all that it leads to is."""
        if not await self.is_whole(descriptor):
            await self.registry.push_manifest(self.repository, data, descriptor.media_type)

    async def name(self, descriptor: Descriptor, data: bytes, tag: str | None, *, top: bool) -> None:
        """Gives a document that is here a name."""
        if tag is not None:
            there = await self.registry.find(Reference(self.registry.host, self.repository, tag))
            if there is None or there.digest != descriptor.digest:
                await self.registry.push_manifest(self.repository, data, descriptor.media_type, tag)


class Folder:
    """A folder of blobs, such as the store; or a layout, which lists what is asked for."""

    def __init__(self, blobs: Blobs, layout: Layout | None = None) -> None:
        self.blobs = blobs
        self._layout = layout

    async def document(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or an index, checked."""
        data = self.blobs.read(_checked(descriptor), most=MOST_BYTES)
        _compare(descriptor, len(data), str(self.blobs.path(descriptor.digest)))
        return data

    async def referrers(self, digest: str) -> list[Descriptor]:
        """What a layout lists that has `digest` as its subject."""
        return [] if self._layout is None else self._layout.referrers(digest)

    async def is_whole(self, descriptor: Descriptor) -> bool:
        """Whether a document is here, with all that it leads to, each as long as it should be."""
        return self._has(descriptor, 1, set())

    def _has(self, descriptor: Descriptor, deep: int, seen: set[str]) -> bool:
        if not is_digest(descriptor.digest) or self.blobs.size(descriptor.digest) != descriptor.size:
            return False
        if descriptor.media_type not in media_types.MANIFESTS | media_types.INDEXES:
            return True
        if descriptor.digest in seen:
            return True
        seen.add(descriptor.digest)
        if deep > _DEEPEST or descriptor.size > MOST_BYTES:
            return False
        try:
            document = parse(self.blobs.read(descriptor.digest, most=MOST_BYTES), descriptor.media_type)
        except PackageError:
            return False
        parts = document.parts if isinstance(document, Manifest) else document.manifests
        return all(self._has(part, deep + 1, seen) for part in parts)

    async def fetch(self, descriptor: Descriptor, blobs: Blobs, tell: Tell) -> None:
        """Brings a blob from here into a folder."""
        path = self.blobs.path(_checked(descriptor))
        with blobs.writer(descriptor.digest, descriptor.size) as writer:
            if writer is None:
                tell(descriptor.size)
                return
            with contextlib.ExitStack() as stack:
                try:
                    file = stack.enter_context(path.open("rb"))
                except FileNotFoundError:
                    raise PackageError(f"{descriptor.digest} is not in {self.blobs.folder}") from None
                tell(writer.offset)
                file.seek(writer.offset)
                while data := file.read(CHUNK):
                    writer.write(data)
                    tell(len(data))

    async def take(self, descriptor: Descriptor, source: Place, tell: Tell) -> None:
        """Brings a blob here, unless it is."""
        await source.fetch(descriptor, self.blobs, tell)

    async def put(self, descriptor: Descriptor, data: bytes) -> None:
        """Brings a document here, also in place of one that was damaged."""
        with contextlib.suppress(PackageError):
            self.blobs.verify(descriptor.digest)
            return
        self.blobs.remove(descriptor.digest)
        _add(self.blobs, descriptor, data)

    async def name(self, descriptor: Descriptor, data: bytes, tag: str | None, *, top: bool) -> None:
        """Has a layout list it, by its name if it has one."""
        if self._layout is not None and top:
            plain = dataclasses.replace(descriptor, annotations={})
            listed = {name_of(each) for each in self._layout.index().manifests if each.digest == plain.digest}
            if not listed or (tag is not None and tag not in listed):
                self._layout.add(tag, plain)


def _checked(descriptor: Descriptor) -> str:
    if not is_digest(descriptor.digest):
        raise PackageError(f"{descriptor.digest}: its algorithm is not one that is checked")
    return descriptor.digest


def _compare(descriptor: Descriptor, size: int, where: str) -> None:
    if size != descriptor.size:
        raise Damaged(descriptor.digest, f"{size} bytes, where {descriptor.size} were said", where)
