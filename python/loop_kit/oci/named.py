"""Artifacts by the names that users write, opened for as long as a command needs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from loop_kit.errors import PackageError
from loop_kit.oci.layout import Layout, name_of
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import LayoutReference, Reference, parse_place
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import Folder, Place, Repository

__all__ = ["Named", "mirrored"]

_MOST_LAYOUTS = 10_000


class Named:
    """The places that names stand for, in an `async with`; a registry is opened once, whatever is asked of it.

    Args:
        pause: Waits for so many seconds, where a registry asks for it.
    """

    def __init__(self, *, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._pause = pause
        self._stack = contextlib.AsyncExitStack()
        self._registries: dict[str, Registry] = {}

    async def __aenter__(self) -> Named:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def registry(self, host: str) -> Registry:
        """The registry of that name."""
        if host not in self._registries:
            registry = Registry(host, pause=self._pause)
            self._registries[host] = await self._stack.enter_async_context(registry)
        return self._registries[host]

    async def place(self, name: Reference | LayoutReference, *, create: bool = False) -> Place:
        """The repository or layout of a name.

        Args:
            name: The name.
            create: Whether a layout is made where there is none.

        Raises:
            PackageError: The folder cannot be made a layout.
        """
        if isinstance(name, Reference):
            return Repository(await self.registry(name.registry), name.repository)
        layout = Layout(name.folder)
        if create:
            layout.create()
        return Folder(layout.blobs, layout)

    async def resolve(self, name: Reference | LayoutReference) -> Descriptor:
        """What a name stands for.

        Raises:
            PackageError: There is nothing of that name, or it cannot be asked for.
        """
        if isinstance(name, Reference):
            return await (await self.registry(name.registry)).resolve(name)
        return Layout(name.folder).resolve(name.digest or name.tag)

    async def all_of(
        self, name: Reference | LayoutReference
    ) -> list[tuple[str, Reference | LayoutReference]]:
        """Each artifact that a name stands for, with its repository: of one without tag and digest all tags.

        A folder that is no layout stands for all layouts in it, whose repositories are their paths there.

        Raises:
            PackageError: There is none, or it cannot be asked for.
        """
        if isinstance(name, Reference):
            if name.tag or name.digest:
                return [(name.repository, name)]
            tags = await (await self.registry(name.registry)).tags(name.repository)
            if not tags:
                raise PackageError(f"{name} has no tags")
            return [(name.repository, name.at(tag=tag)) for tag in sorted(tags) if not _stands_in(tag)]
        if name.tag or name.digest or (name.folder / "oci-layout").exists():
            return _of_layout(name, name.folder.resolve().name)
        found = []
        for folder in _layouts(name.folder):
            found += _of_layout(LayoutReference(folder), folder.relative_to(name.folder).as_posix())
        if not found:
            Layout(name.folder).index()  # says why
        return found


def mirrored(
    target: str, repository: str, source: Reference | LayoutReference
) -> Reference | LayoutReference:
    """The name that an artifact has in a mirror.

    Args:
        target: `REGISTRY`, `REGISTRY/PREFIX` or `oci-layout:DIR`, in which each repository is a layout of its own.
        repository: The artifact's.
        source: Its name where it comes from.

    Raises:
        PackageError: The target is none of these, or the repository cannot have that name.
    """
    below = parse_place(f"{target.rstrip('/')}/{repository}")
    if isinstance(below, Reference):
        return below.at(tag=source.tag, digest=source.digest)
    return LayoutReference(below.folder, source.tag, source.digest)


def _stands_in(tag: str) -> bool:
    """Whether a tag is that of an index of referrers, which are copied with what they refer to."""
    return tag.startswith(("sha256-", "sha512-"))


def _of_layout(name: LayoutReference, repository: str) -> list[tuple[str, Reference | LayoutReference]]:
    if name.tag or name.digest:
        return [(repository, name)]
    listed = Layout(name.folder).index().manifests
    tags = [tag for each in listed if (tag := name_of(each)) is not None and not _stands_in(tag)]
    return [(repository, LayoutReference(name.folder, tag)) for tag in tags]


def _layouts(top: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(top):
        if "oci-layout" in files:
            folders.clear()
            found.append(Path(folder))
            if len(found) > _MOST_LAYOUTS:
                raise PackageError(f"{top} has more than {_MOST_LAYOUTS} layouts in it")
    return sorted(found)
