"""What `[packages]` of a workspace asks for: locked, installed, started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from loop_kit.pkg._installer import Installer, pinned
from loop_kit.pkg._model import Asked, Locked, failed
from loop_kit.pkg._policy import Judge
from loop_kit.pkg._tools import SHIPPED, TOOLS, named_in, shipped

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.pkg._install import Program

__all__ = ["Packages"]

Tell = Callable[[str], object]


class Packages(Installer):
    """The packages of a workspace.

    Args:
        manifest: The workspace's.
        tell: Told, in words, what takes a while.
    """

    def __init__(self, manifest: Manifest, tell: Tell = lambda text: None) -> None:
        super().__init__(manifest, tell)
        self._lock_file = manifest.path.with_suffix(".lock")
        self._judge = Judge(manifest)

    def locked(self) -> dict[str, Locked]:
        """What the lock has, by alias.

        Raises:
            PackageError: It is damaged.
        """
        from loop_kit.pkg import _lock

        return _lock.read(self._lock_file)

    async def lock(self, aliases: Iterable[str] | None = None, *, anew: bool = False) -> dict[str, Locked]:
        """Locks what the manifest asks for and the lock has not, and drops what it does not ask for any more.

        Args:
            aliases: Only these; None: all.
            anew: Whether what is locked is looked for again.

        Returns:
            All that is locked.

        Raises:
            PackageError: Something cannot be found, or does not fit together.
        """
        from loop_kit.pkg import _lock
        from loop_kit.pkg._solve import solved

        chosen = set(self.manifest.packages if aliases is None else aliases)
        known = self.locked()
        made: dict[str, Locked] = {}
        for alias, asked in self.manifest.packages.items():
            old = known.get(alias)
            if alias not in chosen or (
                not anew and old is not None and old.asked == asked and old.here(self.here)
            ):
                continue
            self._judge.source(asked)
            resolvers, fetcher = await self.online()
            resolver, name = await resolvers.of(asked)
            found = await solved(asked, resolver, name, self.store, fetcher, self.here, self._tell)
            made[alias] = _joined(old, found) if not anew else found
        if made or set(known) - set(self.manifest.packages):
            with _lock.changing(self._lock_file) as packages:
                packages |= made
                for alias in set(packages) - set(self.manifest.packages):
                    del packages[alias]
                return dict(packages)
        return known

    async def install(self, *, offline: bool = False, locked: bool = False) -> list[Program]:
        """Has everything there that the manifest asks for, and the scripts that start it; also what its builds take.

        Args:
            offline: Whether nothing may be fetched.
            locked: Whether the lock must have all of it already.

        Returns:
            The programs.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: Something is not locked, does not come, or two packages have a program of the same name.
        """
        with self.store.use():  # nobody sweeps away meanwhile what is not pinned yet
            return await self._install(offline, locked)

    async def _install(self, offline: bool, locked: bool) -> list[Program]:
        from loop_kit.pkg._install import place_of, programs, write_shims

        known = self.locked() if offline or locked else await self.lock()
        found: dict[str, Program] = {}
        wanted = {alias: self._pinned(known, alias) for alias in self.manifest.packages}
        if unsigned := self._judge.unsigned(self.manifest.packages.values()):
            self._tell(unsigned)
        for alias, one in wanted.items():
            await self.have(one, self._lock_file, offline=offline)
            for program in programs(self.store, one, self.here):
                other = found.setdefault(program.name, program)
                if other is not program:
                    raise failed(
                        f"{other.alias} and {alias} both have a program {program.name}",
                        "`loop pkg remove` one of them",
                    )
        for name in named_in(self.manifest):
            if name in TOOLS and name not in wanted and name not in found:
                one = shipped()[name]
                if not place_of(self.store, one, self.here).is_dir():
                    self._tell(f"{name} {one.version}, for builds …")
                await self.have(one, SHIPPED, offline=offline)
        write_shims(self.folder, found.values())
        return list(found.values())

    def _pinned(self, known: dict[str, Locked], alias: str) -> Locked:
        found = pinned(known, self.manifest.packages[alias], self.here)
        self._judge.locked(found)
        return found

    def programs(self) -> list[Program]:
        """The programs of what is installed.

        Raises:
            PackageError: Something is not.
        """
        from loop_kit.pkg._install import place_of, programs

        found: list[Program] = []
        known = self.locked()
        for alias in self.manifest.packages:
            one = self._pinned(known, alias)
            if not place_of(self.store, one, self.here).is_dir():
                raise failed(f"{alias} is not installed", "`loop pkg install`")
            found += programs(self.store, one, self.here)
        return found

    async def newest(self, asked: Asked) -> tuple[str, str]:
        """The newest version that fits, and the newest of all.

        Raises:
            Untrusted: The policy takes nothing from there.
            PackageError: There is none.
        """
        self._judge.source(asked)
        resolvers, _ = await self.online()
        resolver, name = await resolvers.of(asked)
        fits = await resolver.fitting(name, [asked.range] if asked.range else [])
        return fits[0], (await resolver.fitting(name, []))[0]

    async def asked_here(self, asked: Asked) -> str | None:
        """The range that a file of the workspace, such as `.nvmrc`, asks for; None: none does.

        Raises:
            Untrusted: The policy takes nothing from there.
            PackageError: There is no such source.
        """
        self._judge.source(asked)
        resolvers, _ = await self.online()
        resolver, name = await resolvers.of(asked)
        for file in await resolver.call("looks_at"):
            path = self.folder / os.path.basename(file)
            if path.name == file and path.is_file() and path.stat().st_size <= 1 << 20:
                for one in await resolver.call("detect", file, path.read_bytes()):
                    if one.name == name:
                        return str(one.range)
        return None


def _joined(old: Locked | None, new: Locked) -> Locked:
    """What is locked for other machines stays, where the version is the same."""
    if old is None or old.asked != new.asked or old.version != new.version or old.layout != "alone":
        return new
    from dataclasses import replace

    known = {key for file in new.nodes[0].files for key in file.platforms}
    kept = tuple(file for file in old.nodes[0].files if not set(file.platforms) & known)
    return replace(new, nodes=(replace(new.nodes[0], files=new.nodes[0].files + kept),))
