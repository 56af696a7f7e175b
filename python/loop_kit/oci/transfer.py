"""Whole artifacts from one place to another: registries, layouts on disk, and the store.

An artifact is a tree: an index, manifests, blobs. It is walked first, within bounds; then blobs go, several at a time
and only those that are missing; then the documents, those that lead to others last, and at the end the name. So whoever
finds a name finds all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES
from loop_kit.oci._places import Folder, Place, Repository
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index, Manifest, Platform, parse
from loop_kit.oci.platform import choose
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry

__all__ = ["JOBS", "MOST", "Copied", "Folder", "Place", "Repository", "Tell", "copy", "pull", "push"]

JOBS = 4
"""Blobs that are on their way at once."""
MOST = 64 << 30
"""Bytes of an artifact, all its parts together, unless more are asked for."""
_MOST_DOCUMENTS = 10_000
_DEEPEST = 8
_MOST_REFERRERS = 1_000

Tell = Callable[[Descriptor, int], object]
"""Called with each blob and 0 once it is known, and then with its bytes as they come or go.

The number is negative where what came was in vain. At the end it adds up to the size of each blob."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of a copy.

    Attributes:
        descriptor: What was copied: the index or manifest.
        referrers: What refers to it and was copied too.
        blobs: Blobs that both places have now.
        size: Their bytes, and those of the documents.
        new: Whether anything had to be copied, but for a name.
    """

    descriptor: Descriptor
    referrers: tuple[Descriptor, ...] = ()
    blobs: int = 0
    size: int = 0
    new: bool = True


@dataclass(slots=True)
class _Tree:
    """What an artifact consists of. `documents`: each behind all that it leads to."""

    documents: dict[str, tuple[Descriptor, bytes]] = field(default_factory=dict)
    blobs: dict[tuple[str, int], Descriptor] = field(default_factory=dict)


async def pull(
    registry: Registry,
    reference: Reference,
    blobs: Blobs,
    tell: Tell | None = None,
    *,
    platform: Platform | None = None,
    most: int = MOST,
) -> Descriptor:
    """Fetches an artifact into a folder of blobs.

    Args:
        registry: Where it is.
        reference: Its name there.
        blobs: Where to.
        tell: Is told how far it is.
        platform: Of an index, only the part for this one; the index itself is fetched as well.
        most: Bytes that it may have.

    Returns:
        The descriptor of the artifact, or of the part for the platform.

    Raises:
        Damaged: Something is not what its digest says; it is not kept.
        PackageError: It is not there, malformed, too large, or the registry cannot be asked.
    """
    root = await registry.resolve(reference)
    source, target = Repository(registry, reference.repository), Folder(blobs)
    chosen = await _part(source, root, platform)
    if chosen != root:
        await target.put(root, await source.document(root))
    return (await copy(source, chosen, target, tell=tell, most=most)).descriptor


async def push(
    blobs: Blobs,
    descriptor: Descriptor,
    registry: Registry,
    reference: Reference,
    tell: Tell | None = None,
) -> Descriptor:
    """Puts an artifact into a registry, under the tag of `reference` if it has one.

    Args:
        blobs: Where it is.
        descriptor: The artifact.
        registry: Where to.
        reference: Its name there.
        tell: Is told how far it is.

    Raises:
        PackageError: A part of it is missing or malformed, or the registry refuses it.
    """
    if reference.digest not in (None, descriptor.digest):
        raise PackageError(f"{reference} cannot be had by pushing {descriptor.digest}")
    target = Repository(registry, reference.repository)
    return (await copy(Folder(blobs), descriptor, target, reference.tag, tell=tell)).descriptor


async def copy(
    source: Place,
    root: Descriptor,
    target: Place,
    tag: str | None = None,
    *,
    tell: Tell | None = None,
    platform: Platform | None = None,
    referrers: bool = False,
    jobs: int = JOBS,
    most: int = MOST,
) -> Copied:
    """Copies an artifact from one place to another: of what is there already nothing.

    Args:
        source: Where it is.
        root: The artifact.
        target: Where to.
        tag: Its name there; without one it is had by its digest.
        tell: Is told how far it is.
        platform: Of an index, only the part for this one, without the index.
        referrers: Whether what refers to it, such as signatures, is copied too.
        jobs: Blobs that are on their way at once.
        most: Bytes that it may have.

    Raises:
        Damaged: Something is not what its digest says.
        PackageError: A part is missing, malformed, or too large; or a registry refuses it, or cannot be asked.
        OSError: A folder cannot be read or written.
    """
    root = await _part(source, root, platform)
    if root.media_type not in media_types.MANIFESTS | media_types.INDEXES:
        raise PackageError(f"{root.digest} is {root.media_type}, neither a manifest nor an index")
    whole = await target.is_whole(root)
    tree = _Tree()
    if not whole:
        await _walk(source, root, tree, most)
        await _bring(source, target, tree, tell or (lambda *_: None), jobs)
    data = tree.documents[root.digest][1] if not whole else await source.document(root)
    referring = await _referring(source, root) if referrers else ()
    fresh = [each for each in referring if not await target.is_whole(each)]
    for each in fresh:
        branch = _Tree()
        await _walk(source, each, branch, most)
        branch.blobs = {key: blob for key, blob in branch.blobs.items() if key not in tree.blobs}
        await _bring(source, target, branch, tell or (lambda *_: None), jobs)
        tree.documents |= branch.documents
        tree.blobs |= branch.blobs
        await target.name(each, branch.documents[each.digest][1], None, top=True)
    await target.name(root, data, tag, top=True)
    size = sum(size for _, size in tree.blobs) + sum(len(data) for _, data in tree.documents.values())
    return Copied(root, tuple(referring), len(tree.blobs), size, not whole or bool(fresh))


async def _part(source: Place, root: Descriptor, platform: Platform | None) -> Descriptor:
    if platform is None or root.media_type not in media_types.INDEXES:
        return root
    index = parse(await source.document(root), root.media_type, what=root.digest)
    assert isinstance(index, Index)
    return choose(index, platform, what=root.digest)


async def _walk(source: Place, root: Descriptor, tree: _Tree, most: int) -> None:
    """Reads all documents of an artifact, and notes what they lead to."""
    budget = most
    count = 0

    def charge(size: int) -> None:
        nonlocal budget
        budget -= size
        if budget < 0:
            error = PackageError(f"{root.digest} has more than {most} bytes")
            error.hint = "`--max-size` lets it have more"
            raise error

    async def visit(descriptor: Descriptor, deep: int) -> None:
        nonlocal count
        count += 1
        if deep > _DEEPEST or count > _MOST_DOCUMENTS:
            raise PackageError(f"{root.digest} has too many documents, or too many within each other")
        if descriptor.digest in tree.documents:
            return
        if descriptor.size > MOST_BYTES:
            raise PackageError(
                f"{descriptor.digest}: a document of {descriptor.size} bytes, more than {MOST_BYTES}"
            )
        charge(descriptor.size)
        data = await source.document(descriptor)
        document = parse(data, descriptor.media_type, what=descriptor.digest)
        if isinstance(document, Manifest):
            _note(document.parts)
        else:
            for each in document.manifests:
                if each.media_type in media_types.MANIFESTS | media_types.INDEXES:
                    await visit(each, deep + 1)
                else:
                    _note((each,))
        tree.documents[descriptor.digest] = descriptor, data

    def _note(parts: Iterable[Descriptor]) -> None:
        for part in parts:
            if (part.digest, part.size) not in tree.blobs:
                charge(part.size)
                tree.blobs[part.digest, part.size] = part

    await visit(root, 1)


async def _bring(source: Place, target: Place, tree: _Tree, tell: Tell, jobs: int) -> None:
    """Has the target get a tree: blobs first, then documents."""
    for blob in tree.blobs.values():
        tell(blob, 0)

    def one(blob: Descriptor) -> Coroutine[Any, Any, None]:
        return target.take(blob, source, lambda count: tell(blob, count))

    await together((one(blob) for blob in tree.blobs.values()), jobs)
    for descriptor, data in tree.documents.values():
        await target.put(descriptor, data)


async def together(works: Iterable[Coroutine[Any, Any, None]], jobs: int) -> None:
    """Does all of it, so many at a time; the first that fails ends the others, and is raised."""
    gate = asyncio.Semaphore(jobs)

    async def gated(work: Coroutine[Any, Any, None]) -> None:
        try:
            async with gate:
                await work
        finally:
            work.close()  # where it had not begun

    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(gated(work))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _referring(source: Place, root: Descriptor) -> tuple[Descriptor, ...]:
    """What refers to an artifact, and what refers to that."""
    found: dict[str, Descriptor] = {}
    around = [root]
    while around:
        subject = around.pop()
        for each in await source.referrers(subject.digest):
            if each.digest in found or each.media_type not in media_types.MANIFESTS | media_types.INDEXES:
                continue
            found[each.digest] = each
            around.append(each)
            if len(found) > _MOST_REFERRERS:
                raise PackageError(f"more than {_MOST_REFERRERS} artifacts refer to {root.digest}")
    return tuple(found.values())
