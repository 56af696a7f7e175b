"""Of what is asked for, what is to be installed: versions, files for every platform, and all that is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loop_kit.errors import Damaged, PackageError
from loop_kit.pkg._fetch import Fetcher, digests_of
from loop_kit.pkg._lock import bin_checked, name_checked, place_checked
from loop_kit.pkg._model import PLATFORMS, Asked, File, Locked, Node, Platform, failed
from loop_kit.pkg._resolver import Resolver, artifact, limited, word
from loop_kit.pkg._store import Store, entries

__all__ = ["Package", "Source", "solved"]

_MOST = 2000
"""Packages of one tool."""
_METADATA = 1 << 20
"""Bytes of a file that tells what a package needs."""

Tell = Callable[[str], object]


@dataclass
class Package:
    """One version of a package, as the source has it."""

    name: str
    version: str
    into: str
    layout: str
    files: tuple[File, ...]
    needs: list[tuple[Any, frozenset[str]]] = field(default_factory=list)
    """What it needs, each with the keys of the platforms on which it does."""


class Source:
    """A source, and what was found there."""

    def __init__(
        self, resolver: Resolver, store: Store, fetcher: Fetcher, here: Platform, tell: Tell
    ) -> None:
        self.resolver, self.store, self.fetcher, self.here, self.tell = resolver, store, fetcher, here, tell
        self._known: dict[tuple[str, str, bool], asyncio.Task[Package | None]] = {}
        self._assets: dict[tuple[str, str, str], Any | None] = {}
        self._versions: dict[tuple[str, ...], Sequence[str] | PackageError] = {}
        # the nearest of those that locks are for is this machine itself, with what it knows of its own
        self.platforms = [
            here if one.key == here.key else replace(one, python=here.python) for one in PLATFORMS
        ]
        if here.key not in {one.key for one in PLATFORMS}:
            self.platforms.append(here)

    async def versions(self, name: str, ranges: list[str]) -> Sequence[str]:
        """The versions of a package in all ranges, the best first.

        Raises:
            PackageError: There is none.
        """
        key = (name, *sorted(set(ranges) - {""}))
        if key not in self._versions:
            try:
                self._versions[key] = await self.resolver.fitting(name, list(key[1:]))
            except PackageError as error:
                self._versions[key] = error
        known = self._versions[key]
        if isinstance(known, PackageError):
            raise known
        return known

    async def version(self, name: str, ranges: list[str]) -> str:
        """The best of them."""
        return (await self.versions(name, ranges))[0]

    async def usable(self, name: str, version: str, here: bool) -> bool:
        """Whether there is anything of a version: for this machine, or for any."""
        for platform in [self.here] if here else self.platforms:
            if await self._asset(name, version, platform) is not None:
                return True
        return False

    async def _asset(self, name: str, version: str, platform: Platform) -> Any | None:
        """The file of a version for a platform, or None."""
        key = (name, version, platform.key)
        if key not in self._assets:
            self._assets[key] = await artifact(self.resolver, name, version, platform)
        return self._assets[key]

    async def whole(self, package: Package) -> Package:
        """A package with its file for this machine fetched, and its programs known."""
        file = next(file for file in package.files if self.here.key in file.platforms)
        if file.bins is not None:
            return package
        found = await self.package(package.name, package.version, whole=True)
        assert found is not None  # it is there already
        return found

    async def package(self, name: str, version: str, *, whole: bool = False) -> Package | None:
        """What a version is; None: there is nothing for any platform.

        `whole`: its file is fetched though what it needs is told apart; its programs are known then.
        """
        key = (name, version, whole)
        task = self._known.get(key)
        if task is None:
            if len(self._known) >= _MOST:
                raise failed(f"{name} is one of more than {_MOST} packages", "the resolver is at fault")
            task = self._known[key] = asyncio.ensure_future(self._package(name, version, whole))
        return await task

    async def _package(self, name: str, version: str, whole: bool) -> Package | None:
        grouped: dict[tuple[str, str], tuple[Any, list[Platform]]] = {}
        for platform in self.platforms:
            asset = await self._asset(name, version, platform)
            if asset is not None:
                grouped.setdefault((asset.file, asset.url), (asset, []))[1].append(platform)
        if not grouped:
            return None
        ours = next((asset for asset, platforms in grouped.values() if self.here in platforms), None)
        told = None if whole else await self._told(name, version, ours or next(iter(grouped.values()))[0])
        files: list[File] = []
        into, layout = "", "alone"
        for asset, platforms in grouped.values():
            fetch = asset is ours and told is None
            file, plan = await self._file(name, version, asset, platforms, fetch)
            into, layout = place_checked(plan.into, empty=True), word(plan.layout)
            if fetch and file is not None:
                tree = await asyncio.to_thread(self.store.unpack, file)
                told = await asyncio.to_thread(entries, tree, [str(one) for one in plan.metadata][:64])
                bins = limited(
                    await self.resolver.call("bins", name, version, self.here.record(), told), "programs"
                )
                checked = tuple(bin_checked(one.name, one.path, word(one.runner)) for one in bins)
                file = replace(file, bins=checked)
            if file is not None:
                files.append(file)
        needs: list[tuple[Any, frozenset[str]]] = []
        if told is not None and layout != "alone":
            # those of another file of the version are taken to be the same
            on = [platform for _, platforms in grouped.values() for platform in platforms]
            needs = await self._needs(name, version, on, told)
        return Package(name, version, into, layout, tuple(files), needs)

    async def _told(self, name: str, version: str, asset: Any) -> list[dict[str, Any]] | None:
        """What the source tells apart of a version, as if it was unpacked; None: it is fetched itself."""
        if asset.checksum is None or asset.checksum.startswith("sha1:"):
            return None  # nothing is known that it could be held to
        apart = await self.resolver.call("metadata", name, version, asset)
        if apart is None:
            return None
        path = place_checked(apart.file)
        try:
            digest, _ = await self.fetcher.get(
                self.resolver, apart, apart.checksum, apart.size, most=_METADATA
            )
        except Damaged:
            raise
        except PackageError:
            return None  # some mirrors list what they do not have
        content = await asyncio.to_thread(self.store.blobs.path(digest).read_bytes)
        return [{"path": path, "executable": False, "content": content}]

    async def _file(
        self, name: str, version: str, asset: Any, platforms: list[Platform], fetch: bool
    ) -> tuple[File | None, Any]:
        """A file as it is locked, fetched and checked if it is to be."""
        call = self.resolver.call
        name_checked(asset.file)
        plan = await call("unpack", name, version, asset)
        digest, size = asset.checksum, asset.size
        known = digest is not None and not digest.startswith("sha1:")
        if fetch:
            digest, size = await self.fetcher.get(self.resolver, asset, digest, size)
            told = await asyncio.to_thread(digests_of, self.store.blobs.path(digest))
            sure = await call("verify", name, version, asset, told)
            if not sure:
                self.tell(
                    f"{asset.file}: {self.resolver.source} has no checksum; what came is locked as it is"
                )
        elif not known:
            return None, plan  # nothing is known that it could be held to
        keys = tuple(sorted(one.key for one in platforms))
        only = tuple(place_checked(one.strip("/")) for one in plan.only)
        return File(keys, asset.file, digest, size, word(plan.archive), min(int(plan.strip), 64), only), plan

    async def _needs(
        self, name: str, version: str, platforms: list[Platform], told: Any
    ) -> list[tuple[Any, frozenset[str]]]:
        """What it needs, and on which of the platforms."""
        needs: dict[tuple[str, str, str], tuple[Any, set[str]]] = {}
        for platform in platforms:
            found = await self.resolver.call("needs", name, version, platform.record(), told)
            for need in limited(found, "packages that are needed"):
                key = (need.name, need.real, need.range)
                needs.setdefault(key, (need, set()))[1].add(platform.key)
        return [(need, frozenset(on)) for need, on in needs.values()]


async def solved(
    asked: Asked, resolver: Resolver, name: str, store: Store, fetcher: Fetcher, here: Platform, tell: Tell
) -> Locked:
    """What a package is to be locked as; its own file for this machine is in the store then.

    Args:
        asked: The package.
        resolver: Its source.
        name: What that calls it.
        store: Where files are.
        fetcher: What fetches them.
        here: This machine.
        tell: Told, in words, what is worth to know.

    Raises:
        PackageError: There is no such thing, or nothing that fits together.
    """
    source = Source(resolver, store, fetcher, here, tell)
    version = await source.version(name, [asked.range])
    root = await source.package(name, version)
    if root is not None and root.layout == "flat":
        from loop_kit.pkg._flat import flat

        return Locked(asked, root.layout, here.python, tuple(await flat(source, name, asked.range)))
    if root is None or not any(here.key in file.platforms for file in root.files):
        raise failed(f"{asked} {version} has nothing for {here.key}")
    root = await source.whole(root)
    nested = root.layout == "nested"
    nodes = await _nested(source, root) if nested else [Node(root.name, root.version, root.into, root.files)]
    return Locked(asked, root.layout, "", tuple(nodes), resolver.signed)


async def _nested(source: Source, root: Package) -> list[Node]:
    """Node's way: at the top, unless another version is there; then below who needs it."""
    placed: dict[str, Package] = {root.into: root}
    optional: dict[str, bool] = {root.into: False}
    needs: dict[str, list[str]] = {}
    waiting = [root.into]
    while waiting:
        at = waiting.pop(0)
        wanted = [need for need, _ in placed[at].needs]
        versions = await asyncio.gather(*(_version_or_none(source, need) for need in wanted))
        packages = await asyncio.gather(
            *(
                source.package(need.real, version)
                for need, version in zip(wanted, versions, strict=True)
                if version
            )
        )
        found = iter(packages)
        for need, version in zip(wanted, versions, strict=True):
            package = next(found) if version else None
            if package is None:
                if need.optional:
                    continue
                raise failed(
                    f"{placed[at].name} needs {need.real}, and there is nothing of it for any platform"
                )
            place_checked(need.name)
            spot = _spot(placed, at, need.name, package)
            if len(placed) > _MOST:
                raise failed(f"{root.name} needs more than {_MOST} packages")
            needs.setdefault(at, []).append(spot)
            if spot not in placed:
                placed[spot] = package
                waiting.append(spot)
            optional[spot] = optional.get(spot, True) and (need.optional or optional[at])
    return [
        Node(one.name, one.version, at, one.files, tuple(sorted(needs.get(at, ()))), optional[at])
        for at, one in [
            (root.into, root),
            *sorted((at, one) for at, one in placed.items() if at != root.into),
        ]
    ]


async def _version_or_none(source: Source, need: Any) -> str | None:
    try:
        return await source.version(need.real, [need.range])
    except PackageError:
        if need.optional:
            return None
        raise


def _spot(placed: dict[str, Package], at: str, name: str, package: Package) -> str:
    """The folder for a package that is needed by the one in `at`: where it is found from there, or the top, or below it.

    One that cannot be at the top is put where nobody but who needs it finds it, so that it takes nobody else's place.
    """
    above = [at]
    while "/node_modules/" in above[-1]:
        above.append(above[-1].rpartition("/node_modules/")[0])
    for folder in [f"{one}/node_modules/{name}" for one in above] + [f"node_modules/{name}"]:
        there = placed.get(folder)
        if there is not None:
            same = (there.name, there.version) == (package.name, package.version)
            return folder if same else f"{at}/node_modules/{name}"
    return f"node_modules/{name}"
