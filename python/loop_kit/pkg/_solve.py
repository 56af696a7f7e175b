"""Of what is asked for, what is to be installed: versions, files for every platform, and all that is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.pkg._fetch import Fetcher, digests_of
from loop_kit.pkg._lock import bin_checked, name_checked, place_checked
from loop_kit.pkg._model import PLATFORMS, Asked, File, Locked, Node, Platform, failed
from loop_kit.pkg._resolver import Resolver, artifact, limited, word
from loop_kit.pkg._store import Store, entries

__all__ = ["solved"]

_MOST = 2000
"""Packages of one tool."""
_ROUNDS = 4000
"""Questions until it is said that there is no answer."""

Tell = Callable[[str], object]


@dataclass
class _Package:
    """One version of a package, as the source has it."""

    name: str
    version: str
    into: str
    layout: str
    files: tuple[File, ...]
    needs: list[Any] = field(default_factory=list)


class _Source:
    """A source, and what was found there."""

    def __init__(
        self, resolver: Resolver, store: Store, fetcher: Fetcher, here: Platform, tell: Tell
    ) -> None:
        self.resolver, self.store, self.fetcher, self.here, self.tell = resolver, store, fetcher, here, tell
        self._known: dict[tuple[str, str], asyncio.Task[_Package | None]] = {}
        # the nearest of those that locks are for is this machine itself, with what it knows of its own
        self.platforms = [
            here if one.key == here.key else replace(one, python=here.python) for one in PLATFORMS
        ]
        if here.key not in {one.key for one in PLATFORMS}:
            self.platforms.append(here)

    async def version(self, name: str, ranges: list[str]) -> str:
        return str(await self.resolver.call("resolve", name, [one for one in ranges if one]))

    async def package(self, name: str, version: str) -> _Package | None:
        """What a version is; None: there is nothing for any platform."""
        task = self._known.get((name, version))
        if task is None:
            if len(self._known) >= _MOST:
                raise failed(f"{name} is one of more than {_MOST} packages", "the resolver is at fault")
            task = self._known[(name, version)] = asyncio.ensure_future(self._package(name, version))
        return await task

    async def _package(self, name: str, version: str) -> _Package | None:
        call = self.resolver.call
        found = [(one, await artifact(self.resolver, name, version, one)) for one in self.platforms]
        grouped: dict[tuple[str, str], tuple[Any, list[Platform]]] = {}
        for platform, asset in found:
            if asset is not None:
                grouped.setdefault((asset.file, asset.url), (asset, []))[1].append(platform)
        if not grouped:
            return None
        files: list[File] = []
        into, layout, needs = "", "alone", []
        for asset, platforms in grouped.values():
            file, plan = await self._file(name, version, asset, platforms)
            into, layout = place_checked(plan.into, empty=True), word(plan.layout)
            if self.here in platforms and file is not None:
                tree = await asyncio.to_thread(self.store.unpack, file)
                told = await asyncio.to_thread(entries, tree, [str(one) for one in plan.metadata][:64])
                bins = limited(await call("bins", name, version, self.here.record(), told), "programs")
                checked = tuple(bin_checked(one.name, one.path, word(one.runner)) for one in bins)
                file = replace(file, bins=checked)
                if layout != "alone":
                    needs = await self._needs(name, version, platforms, told)
            if file is not None:
                files.append(file)
        return _Package(name, version, into, layout, tuple(files), needs)

    async def _file(
        self, name: str, version: str, asset: Any, platforms: list[Platform]
    ) -> tuple[File | None, Any]:
        """A file as it is locked; that of this machine is fetched and checked."""
        call = self.resolver.call
        name_checked(asset.file)
        plan = await call("unpack", name, version, asset)
        digest, size = asset.checksum, asset.size
        known = digest is not None and not digest.startswith("sha1:")
        if self.here in platforms:
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

    async def _needs(self, name: str, version: str, platforms: list[Platform], told: Any) -> list[Any]:
        """What it needs on any of the platforms that this file is for."""
        needs: dict[str, Any] = {}
        for platform in platforms:
            for need in limited(
                await self.resolver.call("needs", name, version, platform.record(), told),
                "packages that are needed",
            ):
                needs.setdefault(need.name, need)
        return list(needs.values())


async def solved(
    asked: Asked, resolver: Resolver, name: str, store: Store, fetcher: Fetcher, here: Platform, tell: Tell
) -> Locked:
    """What a package is to be locked as; its files for this machine are in the store then.

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
    source = _Source(resolver, store, fetcher, here, tell)
    version = await source.version(name, [asked.range])
    root = await source.package(name, version)
    if root is None or not any(here.key in file.platforms for file in root.files):
        raise failed(f"{asked} {version} has nothing for {here.key}")
    if root.layout == "nested":
        nodes = await _nested(source, root)
    elif root.layout == "flat":
        nodes = await _flat(source, root, asked)
    else:
        nodes = [Node(root.name, root.version, root.into, root.files)]
    python = here.python if root.layout == "flat" else ""
    return Locked(asked, root.layout, python, tuple(nodes))


async def _nested(source: _Source, root: _Package) -> list[Node]:
    """Node's way: at the top, unless another version is there; then below who needs it."""
    placed: dict[str, _Package] = {root.into: root}
    optional: dict[str, bool] = {root.into: False}
    needs: dict[str, list[str]] = {}
    waiting = [root.into]
    while waiting:
        at = waiting.pop(0)
        wanted = placed[at].needs
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


async def _version_or_none(source: _Source, need: Any) -> str | None:
    try:
        return await source.version(need.real, [need.range])
    except PackageError:
        if need.optional:
            return None
        raise


def _spot(placed: dict[str, _Package], at: str, name: str, package: _Package) -> str:
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


async def _flat(source: _Source, root: _Package, asked: Asked) -> list[Node]:
    """Python's way: one version of each, which all who need it can have; the newest such, without going back."""
    wants: dict[str, dict[str, Any]] = {root.name: {"": asked.range}}
    chosen: dict[str, _Package] = {root.name: root}
    waiting = [root.name]
    for _ in range(_ROUNDS):
        if not waiting:
            break
        name = waiting.pop(0)
        package = chosen.get(name)
        for need in package.needs if package is not None else ():
            ranges = wants.setdefault(need.real, {})
            if ranges.get(name) == need.range and need.real in chosen:
                continue
            ranges[name] = need.range
            try:
                version = await source.version(need.real, list(ranges.values()))
            except PackageError as error:
                who = ", ".join(f"{by or 'you'} ({wanted or 'any'})" for by, wanted in ranges.items())
                raise failed(f"{error}: {need.real} is wanted by {who}") from None
            known = chosen.get(need.real)
            if known is None or known.version != version:
                found = await source.package(need.real, version)
                if found is None:
                    raise failed(
                        f"{name} needs {need.real} {version}, and there is nothing of it for any platform"
                    )
                for others in wants.values():  # what another version of it wanted counts no more
                    others.pop(need.real, None)
                chosen[need.real] = found
                waiting.append(need.real)
    else:
        raise failed(f"what {root.name} needs does not fit together")
    reached, todo = {root.name}, [root.name]
    while todo:
        more = {need.real for need in chosen[todo.pop()].needs} - reached
        reached |= more
        todo += sorted(more)
    rest = sorted(reached - {root.name})
    return [
        Node(one.name, one.version, one.into, one.files, tuple(sorted({need.real for need in one.needs})))
        for one in (chosen[name] for name in (root.name, *rest))
    ]
