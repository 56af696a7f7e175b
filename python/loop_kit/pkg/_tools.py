"""The programs that builds name as `{tool:NAME}`: of `[packages]`, or of the lock that ships with loop-kit."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import fcntl
import functools
import os
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import PackageError
from loop_kit.pkg._installer import Installer, pinned
from loop_kit.pkg._model import NAMES, Asked, Locked, Platform, failed

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.pkg._install import Program

__all__ = ["SHIPPED", "TOOLS", "NoTool", "Scope", "Tools", "named", "named_in", "shipped"]

SHIPPED = Path(__file__).with_name("tools.lock")
"""The lock of the tools that every workspace has."""

TOOLS = ("componentize-py", "componentize-qjs", "esbuild")
"""Their names, which take no look into it."""

_NAMED = re.compile(r"\{tool:([^{}]*)\}")
_LOOK = 0.1
"""Seconds between looks at whether another process has finished."""

Command = str | tuple[str, ...]
Tell = Callable[[str], object]


def named(command: Command | None) -> list[str]:
    """The names that stand in a command as `{tool:NAME}`, each once."""
    words = (command,) if isinstance(command, str) else command or ()
    return list(dict.fromkeys(name for word in words for name in _NAMED.findall(word)))


def named_in(manifest: Manifest) -> list[str]:
    """The tools that the builds and tasks of a manifest take, each once."""
    commands = [component.build for component in manifest.components.values()]
    commands += [task.run for task in (*manifest.tasks.values(), *manifest.member_tasks.values())]
    names = [name for command in commands for name in named(command)]
    if any(component.dev is not None for component in manifest.components.values()):
        from loop_kit.dev import engine

        names += engine.TOOLS
    return list(dict.fromkeys(names))


@functools.cache
def shipped() -> Mapping[str, Locked]:
    """The tools of the lock that ships with loop-kit."""
    from loop_kit.pkg import _lock

    return _lock.read(SHIPPED)


class NoTool(PackageError):
    """There is no tool of a name."""


@dataclass(frozen=True)
class Scope:
    """A workspace's packages.

    Attributes:
        manifest: Its `loop.toml`.
        packages: What that asks for, by alias.
    """

    manifest: Path
    packages: Mapping[str, Asked]

    @property
    def lock(self) -> Path:
        """The file that they are locked in."""
        return self.manifest.with_suffix(".lock")


@dataclass(frozen=True)
class _Found:
    """A tool.

    Attributes:
        name: As it is called.
        locked: Its package.
        lock: The file that it is locked in.
        manifest: Whose configuration says where it comes from; None: nobody's.
    """

    name: str
    locked: Locked
    lock: Path
    manifest: Path | None


class Tools:
    """What `{tool:NAME}` means in a workspace.

    A name is a package's, or that of a program of one: of the workspace, then of the workspace that it is a member of;
    last come the tools that ship with loop-kit. It is installed when it is first needed, as it is locked.

    Args:
        own: The workspace's packages; None: there is no workspace.
        above: Those of the workspace that it is a member of, asked for where its own have no such name.
    """

    def __init__(self, own: Scope | None = None, above: Callable[[], Scope | None] = lambda: None) -> None:
        self._own, self._above = own, above
        self._here = Platform.here()

    @classmethod
    def of(cls, manifest: Manifest) -> Tools:
        """Those of a manifest."""
        return cls(Scope(manifest.path, manifest.packages), functools.partial(_above, manifest.path))

    @functools.cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """The packages that come before those of loop-kit; none is empty."""
        found = (self._own, self._above()) if self._own is not None else ()
        return tuple(scope for scope in found if scope is not None and scope.packages)

    def _find(self, name: str) -> _Found:
        known = {*TOOLS}
        for scope in self.scopes:
            locked = _locked(scope.lock)
            if name in scope.packages:
                one = pinned(locked, scope.packages[name], self._here)
                return _Found(name, one, scope.lock, scope.manifest)
            for alias, asked in scope.packages.items():
                programs = _programs(locked.get(alias), self._here)
                if name in programs:
                    return _Found(name, pinned(locked, asked, self._here), scope.lock, scope.manifest)
                known |= {alias, *programs}
        if name in TOOLS:
            manifest = None if self._own is None else self._own.manifest
            return _Found(name, pinned(shipped(), shipped()[name].asked, self._here), SHIPPED, manifest)
        error = NoTool(f"there is no tool {name!r}")
        error.hint = _remedy(name, known)
        raise error

    def has(self, name: str) -> bool:
        """Whether there is such a tool, be it locked or not."""
        if not self.scopes:
            return name in TOOLS
        try:
            self._find(name)
        except NoTool:
            return False
        except PackageError:
            pass
        return True

    def identity(self, name: str) -> str:
        """What is another one whenever what is installed is: its version, and a digest of what is locked.

        Raises:
            NoTool: There is no such tool.
            PackageError: It is not locked.
        """
        return f"{self._find(name).locked.version} {self.place(name).name}"

    def place(self, name: str) -> Path:
        """The folder of a tool, whether it is there or not.

        Raises:
            NoTool: There is no such tool.
            PackageError: It is not locked.
        """
        from loop_kit.pkg._install import place_of
        from loop_kit.pkg._store import Store

        return place_of(Store(), self._find(name).locked, self._here)

    def identities(self, names: Iterable[str]) -> list[str]:
        """Those of several, with their names; where one cannot be told, whoever wants to run it is told so."""
        found = []
        for name in names:
            try:
                found.append(f"{name} {self.identity(name)}")
            except PackageError:
                found.append(name)
        return found

    async def command(self, name: str, tell: Tell = lambda text: None) -> tuple[str, ...]:
        """The program and first arguments that run a tool, which is installed if it was not.

        Args:
            name: The tool.
            tell: Told, in words, what takes a while.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: There is no such tool, it does not come, or there is nothing to run it by.
        """
        from loop_kit.pkg._install import programs
        from loop_kit.pkg._store import Store

        found = self._find(name)
        await self._there(found, tell)
        return _chosen(found, programs(Store(), found.locked, self._here)).command

    async def folder(self, name: str, tell: Tell = lambda text: None) -> Path:
        """The folder whose `node_modules` has a tool, which is installed if it was not.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: There is no such tool, it does not come, or it is no package of npm.
        """
        found = self._find(name)
        if found.locked.layout != "nested":
            raise failed(
                f"{name} is {found.locked.asked} here, and is to be imported by Node.js",
                f"have it from npm: `loop pkg add npm:{name}`",
            )
        return await self._there(found, tell)

    async def prepared(self, command: Command, tell: Tell = lambda text: None) -> Command:
        """A command as it can be run: with programs in the place of tools, which are installed where they are not.

        Args:
            command: For the shell, or an argument list; in one a tool is an argument of its own.
            tell: Told, in words, what takes a while.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: There is no such tool, or it does not come.
        """
        found = {f"{{tool:{name}}}": await self.command(name, tell) for name in named(command)}
        if isinstance(command, str):
            return _NAMED.sub(lambda match: shlex.join(found[match[0]]), command)
        return tuple(part for word in command for part in found.get(word, (word,)))

    async def _there(self, found: _Found, tell: Tell) -> Path:
        from loop_kit.pkg._install import place_of
        from loop_kit.pkg._store import Store

        if found.lock != SHIPPED and found.manifest is not None:  # what ships is part of loop-kit
            _judge(found.manifest, found.locked)
        store = Store()
        place = place_of(store, found.locked, self._here)
        if place.is_dir():
            return place
        what = f"{found.name} {found.locked.version}"
        began = time.monotonic()
        async with (
            _alone(store.folder / "installing", place.name, what, tell),
            _installer(found.manifest, tell) as installer,
        ):
            if not place.is_dir():
                tell(f"installing {what}, once …")
                await installer.have(found.locked, found.lock)
                tell(f"installed {what} in {time.monotonic() - began:.1f} s")
        return place


def _judge(manifest: Path, locked: Locked) -> None:
    from loop_kit.manifest import load
    from loop_kit.pkg._policy import Judge

    Judge(load(manifest)).locked(locked)


def _installer(manifest: Path | None, tell: Tell) -> Installer:
    from loop_kit.manifest import load, loads

    return Installer(load(manifest) if manifest is not None and manifest.is_file() else loads(""), tell)


@contextlib.asynccontextmanager
async def _alone(folder: Path, name: str, what: str, tell: Tell) -> AsyncIterator[None]:
    """Keeps others from installing the same meanwhile; the system takes the lock from a process that is killed."""
    from loop_kit.store._folder import telling

    with telling(folder.parent), contextlib.ExitStack() as stack:
        os.makedirs(folder, 0o700, exist_ok=True)
        file = stack.enter_context(open(os.path.join(folder, name), "wb"))  # noqa: ASYNC230
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    tell(f"waiting for another process that installs {what} …")
                waiting = True
                await asyncio.sleep(_LOOK)
        yield


def _above(manifest: Path) -> Scope | None:
    """The packages of the workspace that a manifest's folder is a member of."""
    from loop_kit.task._where import FILE, locate

    if manifest.name != FILE or not manifest.is_file():
        return None
    root, member = locate(manifest)
    if not member:
        return None
    path = Path(root, FILE)
    return Scope(path, _asked(path, _signature(path)))


@functools.lru_cache(64)
def _asked(manifest: Path, _: object) -> Mapping[str, Asked]:
    from loop_kit.manifest import load

    return load(manifest).packages


def _locked(lock: Path) -> Mapping[str, Locked]:
    """What a lock has; it is read again when it has changed."""
    return _read(lock, _signature(lock))


@functools.lru_cache(64)
def _read(lock: Path, _: object) -> Mapping[str, Locked]:
    from loop_kit.pkg import _lock

    return _lock.read(lock)


def _signature(path: Path) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _programs(locked: Locked | None, here: Platform) -> list[str]:
    """The names of a package's programs."""
    file = None if locked is None else locked.nodes[0].file_for(here)
    return [] if file is None else [name for name, _, _ in file.bins or ()]


def _chosen(found: _Found, programs: Iterable[Program]) -> Program:
    """Of the programs of a package, the one that is called as asked for, or as the package, or that is the only one."""
    known = {program.name: program for program in programs}
    package = re.split(r"[/:]", found.locked.asked.name.partition("[")[0])[-1]
    for name in (found.name, package):
        if name in known:
            return known[name]
    if len(known) == 1:
        return next(iter(known.values()))
    words = " or ".join(f"{{tool:{name}}}" for name in known)
    raise failed(f"{found.name} has more programs than one", f"say which: {words}")


def _remedy(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    add = f"loop pkg add {name}" if name in NAMES else f"loop pkg add SOURCE:{name or 'NAME'}"
    return f"did you mean {near[0]!r}? `{add}` has another" if near else f"`{add}` adds it to the workspace"
