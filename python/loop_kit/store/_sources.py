"""Where artifacts come from: registries, and layouts on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import PackageError
from loop_kit.oci.model import MOST_BYTES, Descriptor, parse
from loop_kit.oci.reference import LAYOUT, LayoutReference, Reference

if TYPE_CHECKING:
    from loop_kit.oci.transfer import Place

__all__ = ["OCI", "Source", "digest_in", "name_in", "opened", "tag_in"]

OCI = "oci:"


@dataclass(frozen=True)
class Source:
    """What a reference leads to.

    Attributes:
        place: The repository of a registry, or the layout.
        resolve: Says what the reference stands for now.
        at: Says what a digest there is.
    """

    place: Place
    resolve: Callable[[], Awaitable[Descriptor]]
    at: Callable[[str], Awaitable[Descriptor]]


def name_in(reference: str) -> str | None:
    """`REGISTRY/REPOSITORY` of a reference; None, if it is of a layout."""
    found = _parsed(reference)
    return found.name if isinstance(found, Reference) else None


def tag_in(reference: str) -> str | None:
    """The tag that a reference leaves the choice to; None, if it names a digest."""
    found = _parsed(reference)
    return None if found.digest else found.tag


def digest_in(reference: str) -> str | None:
    """The digest that a reference names, or None."""
    return _parsed(reference).digest


def _parsed(reference: str) -> Reference | LayoutReference:
    if reference.startswith(LAYOUT):
        return LayoutReference.parse(reference)
    if not reference.startswith(OCI):
        error = PackageError(f"{reference!r} names no artifact")
        error.hint = f"write {OCI}REGISTRY/REPOSITORY:TAG, or {LAYOUT}FOLDER:TAG"
        raise error
    return Reference.parse(reference.removeprefix(OCI))


@contextlib.asynccontextmanager
async def opened(reference: str, folder: Path) -> AsyncIterator[Source]:
    """What a reference leads to, as long as it is needed.

    Args:
        reference: `oci:REGISTRY/REPOSITORY:TAG` or `oci-layout:FOLDER:TAG`, with a digest or not.
        folder: What the path of a layout starts from.

    Raises:
        PackageError: It is no reference.
    """
    found = _parsed(reference)
    if isinstance(found, LayoutReference):
        yield _layout(found, folder)
        return
    from loop_kit.oci.registry import Registry
    from loop_kit.oci.transfer import Repository

    async with Registry(found.registry) as registry:
        yield Source(
            Repository(registry, found.repository),
            lambda: registry.resolve(found),
            lambda digest: registry.resolve(found.at(digest=digest)),
        )


def _layout(reference: LayoutReference, folder: Path) -> Source:
    from loop_kit.oci.layout import Layout
    from loop_kit.oci.transfer import Folder

    layout = Layout(folder / reference.folder)

    def at(digest: str) -> Descriptor:
        data = layout.blobs.read(digest, most=MOST_BYTES)
        return Descriptor(parse(data, what=digest).media_type, digest, len(data))

    def resolve() -> Descriptor:
        # what a digest names need not be listed any more
        return at(reference.digest) if reference.digest else layout.resolve(reference.tag)

    return Source(
        Folder(layout.blobs, layout),
        lambda: asyncio.to_thread(resolve),
        lambda digest: asyncio.to_thread(at, digest),
    )
